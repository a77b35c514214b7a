package mailtest

import (
	"bufio"
	"bytes"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// Whatever a zone text says, it is refused or can be served.
func FuzzZone(f *testing.F) {
	f.Add("a.example A 127.0.0.1\n$TTL 5\nb.example CNAME a.example", "b.example.")
	f.Add(`odd\000.example TXT "\x00"`, `ODD\000.example.`)
	f.Add("x TIMEOUT A\nx SERVFAIL\ny MX 10 x", "x.")
	f.Fuzz(func(t *testing.T, text, name string) {
		z, err := parseZone(text)
		if err != nil {
			return
		}
		for _, qtype := range []uint16{dns.TypeA, dns.TypeTXT, dns.TypeMX, dns.TypePTR} {
			m := new(dns.Msg).SetQuestion(name, qtype)
			if z.answer(m, name, qtype) && len(m.Answer) > 16+strings.Count(text, "\n") {
				t.Errorf("%d records", len(m.Answer))
			}
		}
	})
}

// A script is refused or has a valid action for every moment.
func FuzzScript(f *testing.F) {
	f.Add("rcpt a@b.example 450 4.2.0 later\nrcpt 250 ok\ndot wait 1s drop\nehlo 250 a\\nb")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseScript(text)
		if err != nil {
			return
		}
		for _, stage := range stages() {
			if a := s.next(stage, "a@b.example"); a.reply != "" && len(a.reply) < 3 {
				t.Errorf("reply %q", a.reply)
			}
		}
	})
}

// Every text survives the dots, and nothing behind the end of data is eaten.
func FuzzReadData(f *testing.F) {
	f.Add([]byte("a\r\n.b\r\n..\r\n"))
	f.Add([]byte("bare\n.\nLF\r.\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		stuffed := append([]byte("\r\n"), text...)
		stuffed = bytes.ReplaceAll(append(stuffed, "\r\n"...), []byte("\r\n."), []byte("\r\n.."))
		got, err := readData(bufio.NewReader(bytes.NewReader(append(stuffed[2:], ".\r\nQUIT\r\n"...))))
		if want := append(bytes.Clone(text), "\r\n"...); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	})
}
