package postfix

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// An mta is Postfix's side of a milter connection.
type mta struct{ *client }

func dialMilter(t testing.TB, addr string, actions uint32) *mta {
	t.Helper()
	m := &mta{dial(t, addr)}
	got := m.say(cmdNegotiate, string(options{milterVersion, actions, 0x1fffff}.append(nil)))
	want := []string{"O" + string(options{
		milterVersion, actions & (actAddHeader | actAddRcpt | actDelRcpt | actChangeFrom | actAddRcptParams),
		protoNoData | protoNoHeaders | protoNoEndHeader | protoNoBody | protoNoUnknown,
	}.append(nil))}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal("negotiation:", diff)
	}
	return m
}

// say sends a command and returns the answers up to the one that ends them.
func (m *mta) say(command byte, data string) (answers []string) {
	m.t.Helper()
	m.tell(command, data)
	for {
		head := make([]byte, 4)
		if _, err := io.ReadFull(m.r, head); err != nil {
			return append(answers, "(closed)")
		}
		body := make([]byte, binary.BigEndian.Uint32(head))
		if _, err := io.ReadFull(m.r, body); err != nil {
			m.t.Fatal(err)
		}
		answers = append(answers, strings.ReplaceAll(string(body), "\x00", "|"))
		if strings.IndexByte("Oacty", body[0]) >= 0 {
			if body[0] == cmdNegotiate {
				answers[0] = string(body)
			}
			return answers
		}
	}
}

// tell sends a command that has no answer.
func (m *mta) tell(command byte, data string) {
	m.t.Helper()
	m.write(string(binary.BigEndian.AppendUint32(nil, uint32(len(data)+1))) + string(command) + data)
}

const allActions = 0x1ff

// message sends a whole message, a line a command, and returns the answers.
func (m *mta) message(script string) string {
	m.t.Helper()
	var out []string
	for line := range strings.Lines(strings.TrimSpace(script)) {
		line = strings.TrimSpace(line)
		data := strings.ReplaceAll(line[1:], "|", "\x00")
		if line[0] == cmdMacros || line[0] == cmdAbort || line[0] == cmdQuitNew {
			m.tell(line[0], data)
			continue
		}
		for _, a := range m.say(line[0], data) {
			if a != "c" {
				out = append(out, a)
			}
		}
	}
	return strings.Join(out, "\n")
}

func TestMilter(t *testing.T) {
	_, addr := serve(t, settings(t), Milter)
	ann, club := rewritten(t, srsDomain, "ann@sender.example"), rewritten(t, clubSRS, "ann@sender.example")
	for _, c := range []struct{ name, script, want string }{
		{"to a remote target", "M<ann@sender.example>|SIZE=100|RET=HDRS|\nR<jo@alumni.example>|NOTIFY=NEVER|\nE", "e<" + ann + ">|SIZE=100 RET=HDRS|\nSPF\na"},
		{"without parameters", "M<ann@sender.example>|\nR<jo@alumni.example>|\nE", "e<" + ann + ">||\nSPF\na"},
		{"for another domain", "M<ann@sender.example>|\nR<jo@club.example>|\nE", "e<" + club + ">||\nSPF\na"},
		{"to a mailbox", "M<ann@sender.example>|\nR<joe@box.example>|\nE", "SPF\na"},
		{"to an alias of a mailbox", "M<ann@sender.example>|\nR<loc@alumni.example>|\nE", "SPF\na"},
		{"to both", "M<ann@sender.example>|\nR<mix@alumni.example>|\nE", "e<" + ann + ">||\nSPF\na"},
		{"to nobody", "M<ann@sender.example>|\nR<nobody@alumni.example>|\nE", "SPF\na"},
		{"to elsewhere", "M<ann@sender.example>|\nR<x@elsewhere.example>|\nE", "e<" + ann + ">||\nSPF\na"},
		{"to a list with an owner", "M<ann@sender.example>|\nR<list@alumni.example>|\nE", "e<owner-list@alumni.example>||\nSPF\na"},
		{"from here", "M<jo@alumni.example>|\nR<x@elsewhere.example>|\nE", "SPF\na"},
		{"excluded", "M<x@esp.example>|\nR<x@elsewhere.example>|\nE", "SPF\na"},
		{"refused by its alias", "M<ann@sender.example>|\nR<gone@alumni.example>|\nE", "y551 5.1.6 gone|\nSPF\na"},
		{"deferred by its alias", "M<ann@sender.example>|\nR<later@alumni.example>|\nE", "y450 4.2.1 100%% later|\nSPF\na"},
		{"dropped by its alias", "M<ann@sender.example>|\nR<drop@alumni.example>|\nE", "SPF\na"},
		{"a bounce", "M<>|\nR<" + ann + ">|\nE", "-<" + ann + ">|\n+<ann@sender.example>|\nSPF\na"},
		{"a bounce with parameters", "M<>|BODY=8BITMIME|\nR<" + ann + ">|NOTIFY=NEVER|ORCPT=rfc822;x@y.example|\nE",
			"-<" + ann + ">|\n2<ann@sender.example>|NOTIFY=NEVER ORCPT=rfc822;x@y.example|\nSPF\na"},
		{"a bounce through an alias", "M<>|\nR<jo@alumni.example>|\nE", "SPF\na"},
		{"a probe", "M<probe@remote.example>|\nR<" + ann + ">|\nE", "-<" + ann + ">|\n+<ann@sender.example>|\ne<" + rewritten(t, srsDomain, "probe@remote.example") + ">||\nSPF\na"},
		{"forged", "M<>|\nR<" + strings.Replace(ann, "ann", "bob", 1) + ">|\nE", "y550 5.1.1 no such address here: it is no bounce address of ours, or it has expired|\nSPF\na"},
		{"harvested", "M<spam@spam.example>|\nR<" + ann + ">|\nE",
			"y550 5.7.1 this address takes only bounces, which come from the null reverse-path <>: write to the sender of the message|\nSPF\na"},
		{"nobody at the SRS domain", "M<>|\nR<x@srs.alumni.example>|\nE", "y550 5.1.1 no such address here|\nSPF\na"},
		{"postmaster", "M<>|\nR<postmaster@srs.alumni.example>|\nE", "-<postmaster@srs.alumni.example>|\n+<root@remote.example>|\nSPF\na"},
		{"failed SPF", "M<fail@sender.example>|\nM<ann@sender.example>|\nR<jo@alumni.example>|\nE",
			"y550 5.7.23 SPF fail; sender.example explains: see 100%% of it at http://sender.example/|\ne<" + ann + ">||\nSPF\na"},
		{"failed SPF, but logged in", "DM{auth_authen}|jo|\nM<fail@sender.example>|\nR<x@elsewhere.example>|\nE", "e<" + rewritten(t, srsDomain, "fail@sender.example") + ">||\na"},
		{"DNS trouble", "M<temperror@sender.example>|\nA", "y451 4.4.3 SPF says temperror for 192.0.2.1 and sender.example|"},
		{"no address", "M<a b>|\nR<jo@alumni.example>|\nR<@x:y>|\nE", "SPF\na"},
		{"too long", "M<" + long + ">|\nR<jo@alumni.example>|\nE", "e<" + token(t) + ">||\nSPF\na"},
		{"trouble", "M<" + strings.Replace(long, "a.", "b.", 1) + ">|\nR<jo@alumni.example>|\nE", "t"},
		{"given up", "M<ann@sender.example>|\nR<jo@alumni.example>|\nA\nM<ann@sender.example>|\nR<joe@box.example>|\nE", "SPF\na"},
		{"with its text", "M<ann@sender.example>|\nR<joe@box.example>|\nT\nLSubject|x|\nN\nBtext\nUXXX|\nE", "SPF\na"},
		{"another session", "M<ann@sender.example>|\nK\nCmx|6\x00\x19IPv6:2001:db8::1|\nHmx|\nM<ann@sender.example>|\nR<joe@box.example>|\nE", "SPF\na"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := dialMilter(t, addr, allActions)
			got := m.message("DCj|mx|\nCmx.sender.example|4\x00\x19192.0.2.1|\nHmx.sender.example|\nDMi|ABC|\n" + c.script)
			if i := strings.Index(got, "i||||Received-SPF|"); i >= 0 {
				end := strings.Index(got[i:], "identity=mailfrom|\n")
				if end < 0 {
					end = strings.Index(got[i:], "identity=helo|\n")
				}
				if end < 0 {
					t.Fatalf("no end of the header: %q", got[i:])
				}
				end += strings.IndexByte(got[i+end:], '\n')
				if strings.Contains(got[i:i+end], "\r") {
					t.Error("a milter's headers have no CR")
				}
				got = got[:i] + "SPF" + got[i+end:]
			}
			if got != c.want {
				t.Errorf("\n got %q\nwant %q", got, c.want)
			}
		})
	}
}

func token(t *testing.T) string {
	s, err := rewriter(srsDomain).Token([]byte("id"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestMilterSwitches shows rewrite_local and milter_spf, and an MTA that cannot
// add recipients with parameters.
func TestMilterSwitches(t *testing.T) {
	s := settings(t)
	s.MilterSPF, s.RewriteLocal = false, true
	_, addr := serve(t, s, Milter)
	ann := rewritten(t, srsDomain, "ann@sender.example")
	m := dialMilter(t, addr, allActions&^actAddRcptParams)
	for script, want := range map[string]string{
		"M<ann@sender.example>|\nR<joe@box.example>|\nE":  "e<" + ann + ">||\na",
		"M<fail@sender.example>|\nR<joe@box.example>|\nE": "e<" + rewritten(t, srsDomain, "fail@sender.example") + ">||\na",
		"M<>|\nR<" + ann + ">|NOTIFY=NEVER|\nE":           "-<" + ann + ">|\n+<ann@sender.example>|\na",
	} {
		if got := m.message(script); got != want {
			t.Errorf("%q\n got %q\nwant %q", script, got, want)
		}
	}
}

// TestMilterMailboxDomain has SRS addresses beside mailboxes in one domain.
func TestMilterMailboxDomain(t *testing.T) {
	s := settings(t)
	s.LocalDomains = append(s.LocalDomains, srsDomain)
	s.MilterSPF = false
	_, addr := serve(t, s, Milter)
	m := dialMilter(t, addr, allActions)
	if got := m.message("M<ann@sender.example>|\nR<joe@" + srsDomain + ">|\nE"); got != "a" {
		t.Errorf("mail for a mailbox: %q", got)
	}
	if got := m.message("M<>|\nR<SRS0=AAAAAAAA=G3=x.example=y@" + srsDomain + ">|\nA"); !strings.HasPrefix(got, "y550 5.1.1 ") {
		t.Errorf("a forged bounce: %q", got)
	}
}

// TestMilterBounds sends more recipients than a message may have.
func TestMilterBounds(t *testing.T) {
	s := settings(t)
	s.MilterSPF = false
	_, addr := serve(t, s, Milter)
	m := dialMilter(t, addr, allActions)
	m.message("M<ann@sender.example>|")
	go func() {
		var all strings.Builder
		for i := range maxRecipients + 1 {
			r := fmt.Sprintf("R<r%d@box.example>\x00", i)
			all.Write(binary.BigEndian.AppendUint32(nil, uint32(len(r))))
			all.WriteString(r)
		}
		_, _ = m.Write([]byte(all.String()))
	}()
	for range maxRecipients {
		if got, err := readPacket(m.r, nil); err != nil || string(got) != "c" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if got, _ := readPacket(m.r, nil); string(got) != "y452 4.5.3 too many recipients\x00" {
		t.Errorf("one more: %q", got)
	}
}

// TestDrain lets a milter end its message, and nobody begin another.
func TestDrain(t *testing.T) {
	s := settings(t)
	s.MilterSPF = false
	server, addr := serve(t, s, Milter)
	m, idle := dialMilter(t, addr, allActions), dialMilter(t, addr, allActions)
	m.message("M<ann@sender.example>|")
	done := make(chan error, 1)
	go func() { done <- server.Shutdown(t.Context()) }()
	if got := idle.line(); got != "(closed)" {
		t.Errorf("the idle one: %s", got)
	}
	if got := m.message("R<joe@box.example>|\nE"); got != "a" {
		t.Errorf("the busy one: %q", got)
	}
	if got := m.line(); got != "(closed)" {
		t.Errorf("the busy one, afterwards: %s", got)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func FuzzMilter(f *testing.F) {
	packet := func(command byte, data string) string {
		return string(binary.BigEndian.AppendUint32(nil, uint32(len(data)+1))) + string(command) + data
	}
	start := packet(cmdNegotiate, string(options{6, allActions, 0x1fffff}.append(nil))) + packet(cmdConnect, "mx\x004\x00\x19192.0.2.1\x00") + packet(cmdHelo, "mx\x00")
	f.Add([]byte(start + packet(cmdMail, "<ann@sender.example>\x00SIZE=1\x00") + packet(cmdRcpt, "<jo@alumni.example>\x00") + packet(cmdEnd, "")))
	f.Add([]byte(start + packet(cmdMacros, "Mi\x00ABC\x00{auth_authen}\x00jo\x00") + packet(cmdMail, "<>\x00") + packet(cmdRcpt, "<"+rewritten(f, srsDomain, "ann@sender.example")+">\x00") + packet(cmdEnd, "")))
	f.Add([]byte(packet(cmdMail, "x") + packet(cmdEnd, "")))
	s := settings(f)
	fuzzDoor(f, s, Milter, func(t *testing.T, out *bufio.Reader) {
		for {
			if _, err := readPacket(out, nil); err != nil {
				if err != io.EOF {
					t.Errorf("an answer is no packet: %v", err)
				}
				return
			}
		}
	})
}
