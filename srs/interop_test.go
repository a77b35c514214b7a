package srs

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A peer is another implementation, running, that shares our secrets and our
// SRS domain. It gets and gives addresses without quotes around the whole local
// part, as a mail system hands them to a map.
type peer struct {
	forward, reverse func(address string) (string, error)
}

const peerSecrets = "the newest secret, with spaces\nan-older-secret-0123456\n"

func needs(t *testing.T, program, hint string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	missing(t, hint)
	return ""
}

func missing(t *testing.T, hint string) {
	t.Helper()
	if os.Getenv("SRSD_REQUIRE_PROGRAMS") != "" {
		t.Fatal(hint)
	}
	t.Skip(hint)
}

func TestPostSRSd(t *testing.T) {
	const hint = "needs postsrsd: apt-get install postsrsd"
	if _, err := os.Stat("/usr/sbin/postsrsd"); err == nil {
		t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin")
	}
	program := needs(t, "postsrsd", hint)
	secrets := filepath.Join(t.TempDir(), "secrets")
	if err := os.WriteFile(secrets, []byte(peerSecrets), 0o600); err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 2)
	cmd := exec.Command(program, "-s"+secrets, "-dfwd.example", "-4", "-l127.0.0.1", "-f"+ports[0], "-r"+ports[1])
	run(t, cmd)
	keys, err := LoadKeys(secrets)
	if err != nil {
		t.Fatal(err)
	}
	interop(t, keys, peer{forward: tcpTable(t, ports[0]), reverse: tcpTable(t, ports[1])})
}

const mailSRS = `
use Mail::SRS;
my $srs = Mail::SRS->new(Secret => [@ARGV], MaxAge => 21, HashLength => 4);
$| = 1;
while (<STDIN>) {
	chomp;
	my ($op, $address) = split / /, $_, 2;
	my $out = eval { $op eq 'forward' ? $srs->forward($address, 'fwd.example') : $srs->reverse($address) };
	print defined $out ? "ok $out\n" : "error\n";
}`

func TestMailSRS(t *testing.T) {
	const hint = "needs Mail::SRS: apt-get install libmail-srs-perl"
	perl := needs(t, "perl", hint)
	if exec.Command(perl, "-MMail::SRS", "-e1").Run() != nil {
		missing(t, hint)
	}
	secrets := strings.Split(strings.TrimSpace(peerSecrets), "\n")
	cmd := exec.Command(perl, append([]string{"-e", mailSRS}, secrets...)...)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	run(t, cmd)
	answers := bufio.NewReader(out)
	ask := func(op string) func(string) (string, error) {
		return func(address string) (string, error) {
			fmt.Fprintf(in, "%s %s\n", op, address)
			return answer(answers, "ok ")
		}
	}
	keys, err := ParseKeys([]byte(peerSecrets))
	if err != nil {
		t.Fatal(err)
	}
	interop(t, keys, peer{forward: ask("forward"), reverse: ask("reverse")})
}

// run starts a program that ends with the test.
func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

func freePorts(t *testing.T, n int) (ports []string) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports = append(ports, port)
	}
	return ports
}

// tcpTable asks as Postfix's tcp_table(5) does.
func tcpTable(t *testing.T, port string) func(string) (string, error) {
	var conn net.Conn
	var err error
	for range 100 {
		if conn, err = net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond) // until it listens
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	answers := bufio.NewReader(conn)
	return func(address string) (string, error) {
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(conn, "get %s\n", url.PathEscape(address))
		text, err := answer(answers, "200 ")
		if err != nil {
			return "", err
		}
		return url.PathUnescape(text)
	}
}

func answer(r *bufio.Reader, good string) (string, error) {
	line, err := r.ReadString('\n')
	if err == io.EOF {
		return "", io.ErrUnexpectedEOF
	}
	text, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), good)
	if !ok {
		return "", fmt.Errorf("%s", text)
	}
	return text, err
}

// interop holds srsd beside a peer for 1,000 random addresses and the awkward
// ones: each reverses what the other wrote, folded or not, whichever key signed.
func interop(t *testing.T, keys Keys, p peer) {
	newest := &Rewriter{Domain: "fwd.example", Keys: keys, Format: FormatClassic}
	older := &Rewriter{Domain: "fwd.example", Keys: keys[1:], Format: FormatClassic}
	for _, in := range append(awkward, randomAddresses(1000)...) {
		leads := in
		switch srsKind(in) {
		case kindSRS0:
			leads = "SRS0" + in[4:]
		case kindSRS1:
			leads = firstHop(in)
		}
		theirs, err := p.forward(in)
		if err != nil {
			t.Errorf("their forward(%s): %v", in, err)
			continue
		}
		// Kinder mail systems quote what a peer leaves without quotes; srsd reads both.
		for _, srs := range []string{theirs, string(appendLower(nil, theirs)), string(appendUpper(nil, theirs))} {
			if back, err := newest.Reverse(srs); err != nil || !sameIfFolded(back, leads, srs == theirs) {
				t.Errorf("theirs: Reverse(%s) = %s, %v; want %s", srs, back, err, leads)
			}
		}
		for _, r := range []*Rewriter{newest, older} {
			ours, err := r.Forward(in)
			if err != nil {
				t.Errorf("Forward(%s): %v", in, err)
				continue
			}
			for _, srs := range []string{unquoted(ours), string(appendLower(nil, unquoted(ours)))} {
				if back, err := p.reverse(srs); err != nil || !sameIfFolded(back, unquoted(leads), srs == unquoted(ours)) {
					t.Errorf("ours: their reverse(%s) = %s, %v; want %s", srs, back, err, leads)
				}
			}
		}
	}
}

func sameIfFolded(got, want string, exact bool) bool {
	return got == want || !exact && equalFold(got, want)
}

// awkward are addresses that the classics can carry, each for a reason.
var awkward = []string{
	"user=tag@example.com", "a=b=c=d@example.com", "user+tag@example.com", "user-tag@example.com", "a/b@example.com",
	"a%b!c@example.com", "o'brien@example.com", "{x}|y~z`^$&*?#@example.com", "x@sub.sub.sub.example.co.uk",
	"UPPER@EXAMPLE.COM", "jörg@example.com", "jörg@exämple.com", "dots.in.it@example.com", "1@2.example",
	`"a b"@example.com`, "alice@[192.0.2.1]", "under_score@a_b.example", "SRS2=aa=bb=c=d@hop.example",
	"SRS0=HHHH=TT=orig.example=alice@hop1.example", "SRS0+HHHH=TT=orig.example=alice@hop1.example",
	"srs0-hhhh=tt=orig.example=alice@hop1.example", "SRS1=GGGG=hop1.example==HHHH=TT=orig.example=bob@hop2.example",
	"SRS1-GGGG=hop1.example=+HHHH=TT=orig.example=bob@hop2.example",
}

// firstHop is the SRS0 address that an SRS1 stands for.
func firstHop(srs1 string) string {
	_, rest, _ := strings.Cut(srs1[5:], "=")
	host, rest, _ := strings.Cut(rest, "=")
	i := strings.LastIndexByte(rest, '@')
	return "SRS0" + rest[:i] + "@" + host
}

// unquoted is an address as a mail system keeps it inside.
func unquoted(s string) string {
	if a, err := split(s); err == nil && a.quoted {
		return a.local + "@" + a.domain
	}
	return s
}

// randomAddresses fit into 64 octets of rewritten local part.
func randomAddresses(n int) (out []string) {
	const atoms = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~"
	const labels = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	word := func(letters string, least, most int) string {
		var b bytes.Buffer
		for range least + rand.IntN(most-least+1) {
			b.WriteByte(letters[rand.IntN(len(letters))])
		}
		return b.String()
	}
	for len(out) < n {
		local := word(labels, 1, 1) + word(atoms, 0, 15)
		domain := word(labels, 1, 12) + "." + word(labels[:52], 2, 5)
		switch rand.IntN(10) {
		case 0:
			local = "SRS0=" + word(labels, 4, 4) + "=" + word(dayLetters, 2, 2) + "=" + domain + "=" + local
			domain = word(labels, 1, 6) + ".example"
		case 1:
			local += "." + word(labels, 1, 3)
		}
		if len(local)+len(domain) < 50 {
			out = append(out, local+"@"+domain)
		}
	}
	return out
}
