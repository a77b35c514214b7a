package spf_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"srsd/spf"
)

func ExampleChecker_Check() {
	dns := newFake(`
		example.com TXT v=spf1 include:mailhost.example -all
		mailhost.example TXT v=spf1 ip4:192.0.2.0/24 ~all`)
	c := spf.Checker{Resolver: dns, Receiver: "mx.alumni.example"}
	for _, ip := range []string{"192.0.2.1", "203.0.113.9"} {
		o := c.Check(context.Background(), netip.MustParseAddr(ip), "mail.example.com", "ann@example.com")
		fmt.Printf("%s: %s\n", o.Result, o.Reason)
	}
	// Output:
	// pass: ip4:192.0.2.0/24 of mailhost.example matches
	// fail: -all of example.com matches
}

func ExampleOutcome_ReceivedSPF() {
	c := spf.Checker{Resolver: newFake("example.com TXT v=spf1 a:gone.example include:example.com -all")}
	ip := netip.MustParseAddr("192.0.2.1")
	o := c.Check(context.Background(), ip, "mail.example.com", "ann@example.com")
	field := "Received-SPF: " + o.ReceivedSPF("mx.alumni.example", ip, "mail.example.com", "ann@example.com")
	fmt.Println(strings.ReplaceAll(field, "\r\n\t", "\n  "))
	// Output:
	// Received-SPF: permerror (mx.alumni.example: void lookup limit exceeded: more
	//   than 2 terms found nothing in DNS, at a:gone.example of example.com)
	//   receiver=mx.alumni.example; client-ip=192.0.2.1;
	//   envelope-from="ann@example.com"; helo=mail.example.com;
	//   mechanism="include:example.com"; identity=mailfrom
}

func ExampleParse() {
	r, err := spf.Parse("v=spf1 mx:example.com/28 ip4:192.0.2.300 ~all")
	for _, t := range r.Terms {
		fmt.Printf("%c %s %q\n", t.Qualifier, t.Name, t.Domain)
	}
	fmt.Println(err)
	// Output:
	// + mx "example.com"
	// ~ all ""
	// spf: "ip4:192.0.2.300": 192.0.2.300 is no IPv4 address
}
