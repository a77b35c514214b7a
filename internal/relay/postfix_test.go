package relay_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"srsd/internal/mailtest"
	"srsd/internal/mailtest/realpostfix"
	"srsd/internal/relay"
)

// freePort is a port that is free at every address given.
func freePort(t *testing.T, hosts ...string) string {
	t.Helper()
	for range 50 {
		first, err := net.Listen("tcp", hosts[0]+":0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(first.Addr().String())
		open := []net.Listener{first}
		for _, h := range hosts[1:] {
			if ln, err := net.Listen("tcp", net.JoinHostPort(h, port)); err == nil {
				open = append(open, ln)
			}
		}
		for _, ln := range open {
			ln.Close()
		}
		if len(open) == len(hosts) {
			return port
		}
	}
	t.Fatal("no port is free at", hosts)
	return ""
}

// start runs a relay with this configuration and alias file until the test ends.
func start(t *testing.T, config, aliases string) *relay.Relay {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"srsd.toml": config, "aliases": aliases} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := relay.LoadConfig(filepath.Join(dir, "srsd.toml"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := relay.New(c, relay.Options{Logger: c.NewLogger(t.Output())})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return r
}

// TestRealPostfix sends a message with swaks through srsd to a real Postfix,
// which puts it into a mailbox; and one for a user that Postfix does not know,
// whose bounce Postfix sends back through srsd to the sender's server.
func TestRealPostfix(t *testing.T) {
	realpostfix.Need(t, "postfix", "postfix")
	realpostfix.Need(t, "swaks", "swaks")
	const relayIP, targetIP, senderIP = "127.0.41.1", "127.0.41.10", "127.0.41.20"
	port := freePort(t, relayIP, targetIP, senderIP)
	at := func(ip string) string { return net.JoinHostPort(ip, port) }

	sender, err := mailtest.NewMX(mailtest.MXConfig{Addr: at(senderIP), Hostname: "mx.sender.example"})
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	dns, err := mailtest.NewDNS(fmt.Sprintf(`
sender.example     MX 10 mx.sender.example
sender.example     TXT v=spf1 ip4:%[3]s -all
mx.sender.example  A %[3]s
target.example     MX 10 mx.target.example
mx.target.example  A %[2]s
`, relayIP, targetIP, senderIP))
	if err != nil {
		t.Fatal(err)
	}
	defer dns.Close()
	start(t, fmt.Sprintf(`hostname = "mx.alumni.example"
[receive]
listen = [%q]
[forward]
domains = ["alumni.example"]
aliases = ["aliases"]
postmaster = "root@target.example"
[srs]
domain = "srs.alumni.example"
[deliver]
port = %s
source = [%q]
allow_networks = ["127.0.41.0/24"]
[dns]
servers = [%q]
`, at(relayIP), port, relayIP, dns.Addr()),
		"jo@alumni.example: jo.private@target.example\ngone@alumni.example: gone.private@target.example\n")
	target := realpostfix.Start(t, at(targetIP), `myhostname = mx.target.example
virtual_mailbox_domains = target.example
smtpd_reject_unlisted_recipient = no
transport_maps = inline:{ srs.alumni.example=smtp:[`+relayIP+`]:`+port+` }
`, "", map[string]string{"mailboxes": "jo.private@target.example target.example/jo.private/\n"})

	body := "From: Ann <ann@sender.example>\r\nTo: jo@alumni.example\r\nSubject: Grüße\r\nX-Odd:   spaces  \r\n\r\n" +
		".a dot\r\n" + strings.Repeat("x", 900) + "\r\n8-bit: äöü \r\n\r\n"
	swaks := func(to string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "message")
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(body, "\r\n", "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("swaks", "--server", relayIP, "--port", port, "--local-interface", senderIP, "--helo", "mx.sender.example",
			"--from", "ann@sender.example", "--to", to, "--data", "@"+file).CombinedOutput()
		if err != nil {
			t.Fatalf("swaks: %v\n%s", err, out)
		}
	}

	swaks("jo@alumni.example")
	got := target.Mailbox("jo.private@target.example", 1)[0]
	for _, want := range []string{
		"Return-Path: <SRS0=", "=sender.example=ann@srs.alumni.example>", "Delivered-To: jo@alumni.example",
		"Received-SPF: pass", "spf=pass", "by mx.alumni.example with ESMTP",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the mailbox has no %q:\n%s", want, got)
		}
	}
	if !strings.HasSuffix(strings.TrimRight(got, "\n"), strings.TrimRight(strings.ReplaceAll(body, "\r\n", "\n"), "\n")) {
		t.Errorf("the message has changed:\n%s", got)
	}

	swaks("gone@alumni.example")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	home, err := sender.Wait(ctx, 1)
	if err != nil {
		t.Fatalf("no bounce came home: %v", err)
	}
	if home[0].From() != "" || fmt.Sprint(home[0].To()) != "[ann@sender.example]" {
		t.Errorf("the bounce is from %q to %q", home[0].From(), home[0].To())
	}
	report := string(home[0].Data)
	if strings.Contains(report, "gone.private") || !strings.Contains(report, "gone@alumni.example") || !strings.Contains(report, "Undelivered Mail Returned to Sender") {
		t.Errorf("Postfix's report names the target, or not the alias, or is another one:\n%s", report)
	}
}
