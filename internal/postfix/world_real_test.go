package postfix_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"srsd/internal/mailtest"
	"srsd/internal/mailtest/realpostfix"
	"srsd/internal/relay"
)

// A world is a Postfix with srsd beside it as a section of docs/postfix.md says,
// and a small Internet around them: a sender, a remote mailbox and a spammer,
// with addresses of their own on loopback.
type world struct {
	t       *testing.T
	house   string // the IP address of Postfix and srsd
	front   string // of srsd where it is the MX
	outside map[string]string
	postfix *realpostfix.Postfix
	sender  *mailtest.MX
	remote  *mailtest.MX
	config  relay.Config
	relay   *relay.Relay
	stop    func()
}

// newWorld makes the world of a section, the n-th at these addresses.
func newWorld(t *testing.T, section string, n int) *world {
	t.Helper()
	realpostfix.Need(t, "postfix", "postfix")
	needRoot(t)
	ip := func(net int) string { return fmt.Sprintf("127.0.%d.%d", net, n) }
	w := &world{t: t, house: ip(42), front: ip(46), stop: func() {},
		outside: map[string]string{"sender": ip(43), "remote": ip(44), "spammer": ip(45)}}
	w.sender = w.mx("sender")
	w.remote = w.mx("remote")
	dns, err := mailtest.NewDNS(fmt.Sprintf(`
sender.example        MX 10 mx.sender.example
sender.example        TXT v=spf1 ip4:%[1]s -all exp=why.sender.example
why.sender.example    TXT 100%%%% not ours
mx.sender.example     A %[1]s
remote.example        MX 10 mx.remote.example
mx.remote.example     A %[2]s
mailbox.example       MX 10 mx.mailbox.example
mx.mailbox.example    A %[3]s
`, w.outside["sender"], w.outside["remote"], w.house))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dns.Close() })
	block := blocks(t, section)
	w.startPostfix(block["cf"])

	dir := t.TempDir()
	aliases := blocks(t, "The alias file")["aliases"]
	w.write(filepath.Join(dir, "aliases"), aliases)
	text := strings.Replace(w.placed(block["toml"]), "/var/lib/srsd", "data", 1)
	if !strings.Contains(text, "[deliver]") {
		text += "\n[deliver]\nallow_networks = [\"127.0.0.0/8\"]\n"
	}
	text += fmt.Sprintf("\n[dns]\nservers = [%q]\n", dns.Addr())
	w.write(filepath.Join(dir, "srsd.toml"), text)
	if w.config, err = relay.LoadConfig(filepath.Join(dir, "srsd.toml")); err != nil {
		t.Fatal(err)
	}
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

// needRoot skips a test that wants port 25 and a Postfix.
func needRoot(t *testing.T) {
	t.Helper()
	switch {
	case os.Geteuid() == 0:
	case os.Getenv("SRSD_REQUIRE_PROGRAMS") != "":
		t.Fatal("needs root, as Postfix does")
	default:
		t.Skip("needs root, as Postfix does")
	}
}

func (w *world) mx(who string) *mailtest.MX {
	w.t.Helper()
	m, err := mailtest.NewMX(mailtest.MXConfig{Addr: net.JoinHostPort(w.outside[who], "25"), Hostname: "mx." + who + ".example"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { m.Close() })
	return m
}

// startPostfix runs a Postfix with these lines of main.cf and a user joe.
func (w *world) startPostfix(mainCF string) {
	w.t.Helper()
	virtual := strings.ReplaceAll(blocks(w.t, "The alias file")["aliases"], ": ", " ")
	w.postfix = realpostfix.Start(w.t, net.JoinHostPort(w.house, "25"), fmt.Sprintf(`myhostname = mx.alumni.example
mynetworks = %[1]s/32
virtual_mailbox_domains = mailbox.example
transport_maps = inline:{ sender.example=smtp:[%[2]s], remote.example=smtp:[%[3]s] }
smtpd_peername_lookup = no
`, w.house, w.outside["sender"], w.outside["remote"])+strings.ReplaceAll(strings.ReplaceAll(mainCF, "127.0.0.1", w.house), "/etc/postfix", "$dir"),
		"", map[string]string{"mailboxes": "joe@mailbox.example mailbox.example/joe/\n", "virtual": virtual})
	if err := os.Mkdir(filepath.Join(w.postfix.Dir, "spool", "srsd"), 0o755); err != nil {
		w.t.Fatal(err)
	}
}

// placed puts the document's addresses and paths into this world.
func (w *world) placed(text string) string {
	return strings.NewReplacer("127.0.0.1", w.house, "127.0.0.0/8\"]\n\n[postfix]", w.house+"/32\"]\n\n[postfix]", "192.0.2.1", w.front,
		"/var/spool/postfix", filepath.Join(w.postfix.Dir, "spool")).Replace(text)
}

func (w *world) write(path, text string) {
	w.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// start starts srsd; stop ends it.
func (w *world) start() {
	w.t.Helper()
	r, err := relay.New(w.config, relay.Options{Logger: w.config.NewLogger(w.t.Output())})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	w.relay = r
	w.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error("srsd:", err)
		}
		w.stop = func() {}
	}
}

// entrance is where the Internet sends mail for this house.
func (w *world) entrance() string {
	if w.relay.Addr() != nil && strings.HasPrefix(w.relay.Addr().String(), w.front) {
		return net.JoinHostPort(w.front, "25")
	}
	return w.postfix.Addr
}

// send sends a message from somebody's address; the error is the first refusal.
func (w *world) send(client, from string, to ...string) error {
	ip, ok := w.outside[client]
	if !ok {
		ip = w.house
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: 5 * time.Second}
	raw, err := dialer.Dial("tcp", w.entrance())
	if err != nil {
		return err
	}
	defer raw.Close()
	if err := raw.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	c := textproto.NewConn(raw)
	if _, _, err := c.ReadResponse(220); err != nil {
		return err
	}
	commands := []string{"EHLO mx." + client + ".example", "MAIL FROM:<" + from + ">"}
	for _, rcpt := range to {
		commands = append(commands, "RCPT TO:<"+rcpt+">")
	}
	for _, line := range commands {
		if err := c.PrintfLine("%s", line); err != nil {
			return err
		}
		if _, _, err := c.ReadResponse(2); err != nil {
			return fmt.Errorf("%s: %w", line[:4], err)
		}
	}
	if err := c.PrintfLine("DATA"); err != nil {
		return err
	}
	if _, _, err := c.ReadResponse(354); err != nil {
		return fmt.Errorf("DATA: %w", err)
	}
	if err := c.PrintfLine("From: <%s>\r\nTo: <%s>\r\nSubject: test\r\n\r\ntext\r\n.", from, to[0]); err != nil {
		return err
	}
	_, _, err = c.ReadResponse(250)
	return err
}

// deliver is send where nothing may go wrong.
func (w *world) deliver(client, from string, to ...string) {
	w.t.Helper()
	if err := w.send(client, from, to...); err != nil {
		w.t.Fatalf("%s → %s: %v", from, to, err)
	}
}

// refused checks that a message is refused with one of these replies, "…" for
// what does not matter in them.
func (w *world) refused(what, client, from, to string, codes ...string) {
	w.t.Helper()
	err := w.send(client, from, to)
	var reply *textproto.Error
	if !errors.As(err, &reply) {
		w.t.Errorf("%s: %v, wanted %q", what, err, codes)
		return
	}
	command, _, _ := strings.Cut(err.Error(), ":")
	got := fmt.Sprintf("%s: %d %s", command, reply.Code, reply.Msg)
	for _, want := range codes {
		beginning, end, _ := strings.Cut(want, "…")
		if strings.HasPrefix(got, beginning) && strings.HasSuffix(got, end) {
			return
		}
	}
	w.t.Errorf("%s: %s, wanted %q", what, got, codes)
}

// await waits for the n-th message at a server.
func (w *world) await(m *mailtest.MX, n int) mailtest.Message {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	got, err := m.Wait(ctx, n)
	if err != nil {
		w.t.Fatalf("waited for %d messages: %v", n, err)
	}
	return got[n-1]
}

// awaitFrom waits for a message with this reverse-path.
func (w *world) awaitFrom(m *mailtest.MX, from string) {
	w.t.Helper()
	for n := 1; w.await(m, n).From() != from; n++ {
	}
}

var section = regexp.MustCompile(`(?m)^## (.*)$`)

// blocks are the fenced blocks of a section of docs/postfix.md, by language.
func blocks(t *testing.T, title string) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/postfix.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\n## "+title)
	if !ok {
		t.Fatalf("docs/postfix.md has no section %q", title)
	}
	if end := section.FindStringIndex(rest); end != nil {
		rest = rest[:end[0]]
	}
	out := map[string]string{}
	for _, b := range regexp.MustCompile("(?s)```(\\w+)\n(.*?)```").FindAllStringSubmatch(rest, -1) {
		out[b[1]] = b[2]
	}
	return out
}
