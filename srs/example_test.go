package srs_test

import (
	"errors"
	"fmt"
	"log"
	"time"

	"srsd/srs"
)

// clock stands still for the examples; a program leaves Rewriter.Now alone.
func clock() time.Time { return time.Date(2023, 11, 14, 12, 0, 0, 0, time.UTC) }

func newRewriter() *srs.Rewriter {
	keys, err := srs.ParseKeys([]byte(`srsd-keys 1
k2 a-newer-secret-of-the-examples
k1 an-older-secret-of-the-examples  sign-until=2023-10-31 accept-until=2023-11-30
`))
	if err != nil {
		log.Fatal(err)
	}
	return &srs.Rewriter{Domain: "fwd.example", Keys: keys, Now: clock}
}

// Mail from alice@example.com is forwarded, and a bounce comes back.
func Example() {
	r := newRewriter()
	sender, err := r.Forward("alice@example.com")
	fmt.Println(sender, err)

	home, err := r.Reverse(sender)
	fmt.Println(home, err)
	// Output:
	// SRS0=5QMY6HNF=G3=example.com=alice@fwd.example <nil>
	// alice@example.com <nil>
}

// What has been rewritten by another forwarder becomes SRS1, which leads back
// to the first one.
func ExampleRewriter_Forward_hops() {
	r := newRewriter()
	for _, sender := range []string{
		"SRS0=abcd=G3=example.com=alice@first.example",
		"SRS1=efgh=first.example==abcd=G3=example.com=alice@second.example",
	} {
		srs1, _ := r.Forward(sender)
		fmt.Println(srs1)
	}
	home, _ := r.Reverse("SRS1=UHL62REI=first.example==abcd=G3=example.com=alice@fwd.example")
	fmt.Println(home)
	// Output:
	// SRS1=UHL62REI=first.example==abcd=G3=example.com=alice@fwd.example
	// SRS1=UHL62REI=first.example==abcd=G3=example.com=alice@fwd.example
	// SRS0=abcd=G3=example.com=alice@first.example
}

// Odd senders are quoted where they must be; the null reverse-path and our own
// addresses stay what they are.
func ExampleRewriter_Forward_odd() {
	r := newRewriter()
	for _, sender := range []string{`"a b"@example.com`, "list-owner+bob=example.net@example.com", "bob@fwd.example", ""} {
		out, err := r.Forward(sender)
		fmt.Printf("<%s> %v\n", out, err)
	}
	_, err := r.Forward("no address")
	fmt.Println(err)
	// Output:
	// <"SRS0=JQYDB7AR=G3=example.com=a b"@fwd.example> <nil>
	// <SRS0=TCEEQXJW=G3=example.com=list-owner+bob=example.net@fwd.example> <nil>
	// <bob@fwd.example> <nil>
	// <> <nil>
	// srs: syntax: no domain
}

// An error tells what to do with a recipient.
func ExampleRewriter_Reverse() {
	r := newRewriter()
	for _, recipient := range []string{
		"SRS0=5QMY6HNF=G3=example.com=alice@fwd.example",
		"SRS0=5QMY6HNF=G3=example.com=bob@fwd.example",
		"SRS0=5QMY6HNF=G3=example.com=alice@elsewhere.example",
		"bob@fwd.example",
	} {
		home, err := r.Reverse(recipient)
		switch {
		case err == nil:
			fmt.Println("send it to", home)
		case errors.Is(err, srs.ErrNotSRS), errors.Is(err, srs.ErrNotOurs):
			fmt.Println("an ordinary address")
		default:
			fmt.Println("550 5.1.1:", err)
		}
	}
	// Output:
	// send it to alice@example.com
	// 550 5.1.1: srs: hash mismatch: no key made it
	// an ordinary address
	// an ordinary address
}

// A sender that is too long for SRS is kept, and a token goes out.
func ExampleRewriter_Token() {
	r := newRewriter()
	kept := map[string]string{} // a real one outlives the program

	const sender = "bounces+a.very.long.variable.envelope.return.path=bob@example.com"
	out, err := r.Forward(sender)
	if errors.Is(err, srs.ErrTooLong) {
		fmt.Println(err)
		id := []byte{0, 0, 1}
		kept[string(id)] = sender
		out, err = r.Token(id)
	}
	fmt.Println(out, err)

	if _, err = r.Reverse(out); errors.Is(err, srs.ErrToken) {
		id, _ := r.ParseToken(out)
		fmt.Println(kept[string(id)])
	}
	// Output:
	// srs: does not fit: local part of 82 octets, 64 are allowed
	// SRS0=EF6UPGV6=G3==AAAAC@fwd.example <nil>
	// bounces+a.very.long.variable.envelope.return.path=bob@example.com
}

// A site that comes from PostSRSd signs in the srsd format and accepts both,
// until the last classic address has expired.
func ExampleRewriter_migration() {
	keys, err := srs.ParseKeys([]byte("the-secret-of-postsrsd\n"))
	if err != nil {
		log.Fatal(err)
	}
	r := &srs.Rewriter{Domain: "fwd.example", Keys: keys, Now: clock, Accept: []srs.Format{srs.FormatClassic}}
	fmt.Println(r.Forward("alice@example.com"))
	fmt.Println(r.Reverse("SRS0=peeK=G3=example.com=alice@fwd.example"))
	// Output:
	// SRS0=PK4ZO2HN=G3=example.com=alice@fwd.example <nil>
	// alice@example.com <nil>
}

func ExampleRewriter_Explain() {
	r := newRewriter()
	r.Now = func() time.Time { return clock().AddDate(0, 0, 30) }
	e := r.Explain("SRS0=5QMY6HNF=G3=example.com=alice@fwd.example")
	fmt.Println(e.Error)
	fmt.Println(e.Kind, e.Format, e.Key, e.AgeDays, e.Reverse)
	// Output:
	// srs: expired: 30 days old, 21 are allowed
	// SRS0 srsd k2 30 alice@example.com
}

// A key shows its id, never its secret.
func ExampleKey() {
	fmt.Println(newRewriter().Keys)
	// Output: [key k2 key k1]
}
