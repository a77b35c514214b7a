package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"srsd/internal/mailtest"
	"srsd/internal/relay"
)

type demoCmd struct{}

// demoPatience bounds the whole demo.
const demoPatience = 9 * time.Second

// demoZone is the DNS of the demo: every mail server in it is the one on loopback.
const demoZone = `
alumni.example      MX 10 mx.alumni.example
srs.alumni.example  MX 10 mx.alumni.example
mx.alumni.example   A 127.0.0.1
sender.example      MX 10 mx.sender.example
sender.example      TXT v=spf1 ip4:127.0.0.1 -all
mx.sender.example   A 127.0.0.1
target.example      MX 10 mx.target.example
mx.target.example   A 127.0.0.1
bank.example        TXT v=spf1 ip4:192.0.2.1 -all exp=why.bank.example
why.bank.example    TXT %{i} may not send mail for %{d}
`

const demoConfig = `hostname = "mx.alumni.example"
data_dir = "data"
[receive]
listen = ["127.0.0.1:0"]
[forward]
domains = ["alumni.example"]
aliases = ["aliases"]
postmaster = "root@target.example"
[srs]
domain = "srs.alumni.example"
[deliver]
port = %s
allow_networks = ["127.0.0.0/8"]
retry = ["300ms"]
[dns]
servers = [%q]
[log]
level = "error"
`

// Run tells the whole story on loopback.
func (demoCmd) Run(c console) error {
	dir, err := os.MkdirTemp("", "srsd-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeoutCause(context.Background(), demoPatience, errors.New("the demo did not go as told in time"))
	defer cancel()
	d := demo{console: c}
	if err := d.start(ctx, dir); err != nil {
		return err
	}
	err = d.tell(ctx)
	return errors.Join(err, d.stop())
}

// A demo is a small world: a DNS, one server that plays the target's and the
// sender's MX, and the relay between them.
type demo struct {
	console
	dns   *mailtest.DNS
	mx    *mailtest.MX
	relay *relay.Relay
	stop  func() error
	seen  int // messages that the story has shown
}

func (d *demo) start(ctx context.Context, dir string) (err error) {
	if d.dns, err = mailtest.NewDNS(demoZone); err != nil {
		return err
	}
	if d.mx, err = mailtest.NewMX(mailtest.MXConfig{}); err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(d.mx.Addr())
	files := map[string]string{
		"srsd.toml": fmt.Sprintf(demoConfig, port, d.dns.Addr()),
		"aliases":   "jo@alumni.example: jo.private@target.example\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	config, err := relay.LoadConfig(filepath.Join(dir, "srsd.toml"))
	if err != nil {
		return err
	}
	if d.relay, err = relay.New(config, relay.Options{Logger: config.NewLogger(d.Err)}); err != nil {
		return err
	}
	running, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- d.relay.Run(running) }()
	d.stop = func() error {
		end()
		return errors.Join(<-ended, d.mx.Close(), d.dns.Close())
	}
	return nil
}

// tell is the story, in five acts.
func (d *demo) tell(ctx context.Context) error {
	d.say(`The people: Ann writes from sender.example. Jo studied at alumni.example, and
has mail to jo@alumni.example forwarded to jo.private@target.example.`)

	d.say(`1. Ann writes to Jo. sender.example allows Ann's host (SPF pass). srsd hands the
message to Jo's server while Ann's host waits, and answers with its answer.`)
	if err := d.talk(ctx, letter("ann@sender.example", "250")); err != nil {
		return err
	}
	arrived, err := d.next(ctx)
	if err != nil {
		return err
	}
	srs := arrived.From()
	if !strings.HasPrefix(srs, "SRS0=") || !strings.HasSuffix(srs, "@srs.alumni.example") {
		return fmt.Errorf("the reverse-path at the target is %q, which is no SRS address", srs)
	}
	d.say(`The reverse-path is now an address at srs.alumni.example, so that SPF passes at
target.example too. Ann's address is inside it, dated, and signed by a hash.`)

	d.say(`2. Somebody pretends to be bank.example, which does not allow this host.`)
	if err := d.talk(ctx, letter("boss@bank.example", "550 5.7.23")); err != nil {
		return err
	}

	d.say(`3. Jo's server is busy, then well again. srsd keeps the message on disk, says so,
and tries again.`)
	if err := d.mx.Script("rcpt 451 4.3.2 too busy\nrcpt 250 2.1.5 ok"); err != nil {
		return err
	}
	if err := d.talk(ctx, letter("ann@sender.example", "250")); err != nil {
		return err
	}
	if _, err := d.next(ctx); err != nil {
		return err
	}

	d.say(`4. Later Jo's mailbox is full, and target.example sends a report to the
reverse-path: to srsd, which checks the hash, finds Ann in it, and brings the
report home. It names the alias that Ann wrote to, not Jo's private address.`)
	if err := d.talk(ctx, bounceTo(srs, "250")); err != nil {
		return err
	}
	home, err := d.next(ctx)
	if err != nil {
		return err
	}
	if home.From() != "" || len(home.To()) != 1 || home.To()[0] != "ann@sender.example" || strings.Contains(string(home.Data), "jo.private") {
		return fmt.Errorf("the report came to %q from %q, or names the private address", home.To(), home.From())
	}

	d.say(`5. Somebody makes up an address of that form, to have srsd send mail to Ann.`)
	if err := d.talk(ctx, bounceTo(strings.Replace(srs, "=ann@", "=bob@", 1), "550 5.1.1")); err != nil {
		return err
	}
	d.say(`That is all of it. "srsd serve" does this for your domain; README.md shows how.`)
	return nil
}

func (d *demo) say(text string) { fmt.Fprintf(d.Out, "\n%s\n", text) }

// talk has a conversation with the relay, and prints it.
func (d *demo) talk(ctx context.Context, dialogue string) error {
	client, err := mailtest.Dial(ctx, d.relay.Addr().String(), "")
	if err != nil {
		return err
	}
	defer client.Close()
	fmt.Fprintln(d.Out)
	client.Log = func(line string) {
		if !strings.HasPrefix(line, "S: 250-") { // what srsd can do beside is another story
			fmt.Fprintln(d.Out, "    "+strings.TrimRight(line, "\r\n"))
		}
	}
	return client.Run(dialogue)
}

// next waits for the next message at the servers, and prints it.
func (d *demo) next(ctx context.Context) (mailtest.Message, error) {
	messages, err := d.mx.Wait(ctx, d.seen+1)
	if err != nil {
		return mailtest.Message{}, err
	}
	m := messages[d.seen]
	d.seen++
	fmt.Fprintf(d.Out, "\n    What arrives at %s:\n    %s\n    %s\n", host(m.To()[0]), m.Mail, strings.Join(m.Rcpts, "\n    "))
	text := strings.TrimRight(strings.ReplaceAll(string(m.Data), "\r\n", "\n"), "\n")
	for line := range strings.SplitSeq(text, "\n") {
		fmt.Fprintln(d.Out, "    | "+line)
	}
	return m, nil
}

func host(address string) string { return "mx." + address[strings.LastIndexByte(address, '@')+1:] }

// letter is a dialogue that sends a message to Jo; verdict is how it ends.
func letter(from, verdict string) string {
	if !strings.HasPrefix(verdict, "2") {
		return fmt.Sprintf("S: 220\nC: EHLO mx.sender.example\nS: 250\nC: MAIL FROM:<%s>\nS: %s\nC: QUIT\nS: 221\n", from, verdict)
	}
	return fmt.Sprintf(`S: 220
C: EHLO mx.sender.example
S: 250
C: MAIL FROM:<%s>
S: 250
C: RCPT TO:<jo@alumni.example>
S: 250
C: DATA
S: 354
| From: Ann <%[1]s>
| To: Jo <jo@alumni.example>
| Subject: Reunion
|
| Do you come, too?
C: .
S: %s
C: QUIT
S: 221
`, from, verdict)
}

// bounceTo is a dialogue that sends a report to an SRS address.
func bounceTo(srs, verdict string) string {
	opening := fmt.Sprintf("S: 220\nC: EHLO mx.target.example\nS: 250\nC: MAIL FROM:<>\nS: 250\nC: RCPT TO:<%s>\n", srs)
	if !strings.HasPrefix(verdict, "2") {
		return opening + "S: " + verdict + "\nC: QUIT\nS: 221\n"
	}
	return opening + `S: 250
C: DATA
S: 354
| From: MAILER-DAEMON@mx.target.example
| To: <` + srs + `>
| Subject: Undelivered mail
| MIME-Version: 1.0
| Content-Type: multipart/report; report-type=delivery-status; boundary=b
|
| --b
|
| <jo.private@target.example>: the mailbox is full
| --b
| Content-Type: message/delivery-status
|
| Reporting-MTA: dns; mx.target.example
|
| Final-Recipient: rfc822; jo.private@target.example
| Action: failed
| Status: 5.2.2
|
| --b--
C: .
S: 250
C: QUIT
S: 221
`
}
