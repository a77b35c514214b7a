package catalogue_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-msgauth/dkim"
)

const exactZone = `
now.example      MX 10 mx.now.example
mx.now.example   A NET.10
later.example    MX 10 mx.later.example
mx.later.example A NET.11
`

// bothWays starts a relay with an alias whose target takes everything at once,
// and one whose target defers everything until it is told otherwise. Details
// ("now+1") tell messages apart.
func bothWays(t *testing.T) (w *world, now, later *sink) {
	w = newWorld(t, exactZone, "now", "later")
	now, later = w.target(10), w.target(11)
	later.behave(always("rcpt", "450 4.2.1 later"))
	w.start("[receive]\nmax_message = \"60MB\"\n[deliver]\nretry = [\"1s\"]\n")
	return w, now, later
}

// below splits what arrived in the alias and the text below our own fields:
// Received is the last of them.
func below(t *testing.T, data []byte) (alias string, text []byte) {
	t.Helper()
	first, _, _ := bytes.Cut(data, []byte("\r\n"))
	alias, found := strings.CutPrefix(string(first), "Delivered-To: ")
	i := bytes.Index(data, []byte("\r\nReceived: from mail.origin.example "))
	if !found || i < 0 {
		t.Fatalf("the trace is not on top: %.200q", data)
	}
	for i += 2; ; {
		n := bytes.Index(data[i:], []byte("\r\n"))
		i += n + 2
		if n < 0 || i == len(data) || data[i] != '\t' && data[i] != ' ' {
			return alias, data[i:]
		}
	}
}

// TestTextsPassToTheOctet sends 500 messages, half of them through the queue
// (2,000 with -long, and one of 25 MB each way): all hashes below our own fields
// are what they were.
func TestTextsPassToTheOctet(t *testing.T) {
	t.Parallel()
	w, now, later := bothWays(t)
	r := mathrand.New(mathrand.NewPCG(1, 2))
	sums := map[string][32]byte{}
	n := 500
	if *long {
		n = 2000
	}
	texts := make([]string, n)
	for i := range texts {
		texts[i] = oddText(r, i)
	}
	if *long {
		texts[n-2] = "Subject: large\r\n\r\n" + strings.Repeat(strings.Repeat("0123456789abcdef", 61)+"\r\n", 25<<20/978)
		texts[n-1] = texts[n-2]
	}
	var senders sync.WaitGroup
	for first := range 8 {
		senders.Go(func() {
			s, err := dial(w.addr, w.net+"9")
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			for i := first; i < n; i += 8 {
				if reply, err := s.send("ann@origin.example", recipient(i), texts[i]); err != nil || reply[0] != '2' {
					t.Errorf("message %d (%.60q): %s, %v", i, texts[i], reply, err)
					return
				}
			}
		})
	}
	senders.Wait()
	for i, text := range texts {
		sums[recipient(i)] = sha256.Sum256([]byte(text))
	}
	later.behave(nil)
	same := 0
	for _, m := range append(now.wait(t, n/2), later.wait(t, n/2)...) {
		alias, text := below(t, m.data)
		want, known := sums[alias]
		delete(sums, alias) // a second copy is an error too
		if !known || sha256.Sum256(text) != want {
			t.Errorf("for %s arrived %d octets: %.100q", alias, len(text), text)
			continue
		}
		same++
	}
	if same != n {
		t.Errorf("%d of %d are the same", same, n)
	}
	w.drained()
}

// recipient tells messages apart; even ones go through at once.
func recipient(i int) string {
	return fmt.Sprintf("%s+%d@alumni.example", []string{"now", "later"}[i%2], i)
}

// oddText is a text of a kind that some relay has changed.
func oddText(r *mathrand.Rand, i int) string {
	octets := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			for b[i] = byte(r.Uint32()); b[i] == '\r' || b[i] == '\n' || b[i] == 0; {
				b[i] = byte(r.Uint32())
			}
		}
		return string(b)
	}
	head := fmt.Sprintf("From: ann@origin.example\r\nX-Id: %d\r\nsubject : spaces  and\ttabs \r\n\tfolded\r\n", i)
	switch i / 2 % 12 {
	case 0:
		return ""
	case 1:
		return "\r\n"
	case 2:
		return "\r\n\r\n\r\n"
	case 3:
		return head // and no empty line
	case 4:
		return head + "\r\n"
	case 5:
		return head + "\r\n.\r\n..\r\n...\r\n. \r\n.x\r\n"
	case 6:
		return head + "\r\n" + octets(3000) + "\r\n" // 8-bit, and a long line
	case 7:
		return head + "\r\n" + strings.Repeat("x", 998) + "\r\n" + strings.Repeat(".", 998) + "\r\n"
	case 8:
		return head + "\r\n" + strings.Repeat("y", 100_000) + "\r\n"
	case 9:
		return head + "\r\n trailing \r\n\t\r\n \r\n\r\n\r\n"
	case 10:
		return head + "X-Eight: " + octets(50) + "\r\nX-Empty:\r\nX-Empty: \r\n\r\nbody\r\n"
	}
	var b strings.Builder
	b.WriteString(head + "\r\n")
	for range r.IntN(60) {
		b.WriteString(octets(r.IntN(200)) + "\r\n")
	}
	return b.String()
}

// TestSignaturesStayValid forwards messages with DKIM signatures (RSA and
// Ed25519, every pair of canonicalizations, three bodies), at once and through
// the queue: 48 of 48 verify where they arrive.
func TestSignaturesStayValid(t *testing.T) {
	t.Parallel()
	w, now, later := bothWays(t)
	signers, records := signingKeys(t)
	bodies := []string{"Hello, Jo.\r\n", "", " spaces  \r\n.dots\r\n..\r\n\xff\xfe 8-bit \r\n\r\n\r\n"}
	canonical := []dkim.Canonicalization{dkim.CanonicalizationSimple, dkim.CanonicalizationRelaxed}
	sent := 0
	for selector, signer := range signers {
		for _, header := range canonical {
			for _, body := range canonical {
				for _, b := range bodies {
					text := "From: Ann <ann@origin.example>\r\nTo: jo@alumni.example\r\nSubject:  hello \r\n\tthere\r\n\r\n" + b
					var signed bytes.Buffer
					err := dkim.Sign(&signed, strings.NewReader(text), &dkim.SignOptions{Domain: "origin.example", Selector: selector,
						Signer: signer, HeaderCanonicalization: header, BodyCanonicalization: body,
						HeaderKeys: []string{"From", "To", "Subject"}})
					if err != nil {
						t.Fatal(err)
					}
					for way := range 2 {
						if reply := w.send("ann@origin.example", recipient(sent*2+way), signed.String()); reply[0] != '2' {
							t.Fatal(reply)
						}
					}
					sent++
				}
			}
		}
	}
	later.behave(nil)
	lookup := func(name string) ([]string, error) { return []string{records[strings.SplitN(name, ".", 2)[0]]}, nil }
	valid := 0
	for _, m := range append(now.wait(t, sent), later.wait(t, sent)...) {
		found, err := dkim.VerifyWithOptions(bytes.NewReader(m.data), &dkim.VerifyOptions{LookupTXT: lookup})
		if err != nil || len(found) != 1 || found[0].Err != nil {
			t.Errorf("%v, %+v: %q", err, found, m.data)
			continue
		}
		valid++
	}
	if valid != 48 {
		t.Errorf("%d of 48 verify", valid)
	}
	w.drained()
}

// signingKeys are two keys by selector, and their records.
func signingKeys(t *testing.T) (map[string]crypto.Signer, map[string]string) {
	t.Helper()
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&r.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"r": r, "e": private}, map[string]string{
		"r": "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der),
		"e": "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public),
	}
}
