package sender

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"srsd/spf"
)

// The cache of SPF outcomes is bounded, and keeps what is asked for.
func TestOutcomesAreBounded(t *testing.T) {
	var c outcomes
	now := time.Now()
	used := outcomeKey{domain: "used.example"}
	c.put(used, spf.Outcome{Result: spf.Pass}, now.Add(time.Hour))
	for i := range 3 * outcomesKept {
		c.put(outcomeKey{domain: strings.Repeat("x", 1+i%60), ip: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}, spf.Outcome{}, now)
		if _, ok := c.get(used, now); !ok {
			t.Fatalf("forgotten after %d", i)
		}
	}
	if n := len(c.young) + len(c.old); n > 2*outcomesKept {
		t.Errorf("%d kept", n)
	}
	if _, ok := c.get(used, now.Add(2*time.Hour)); ok {
		t.Error("it does not end")
	}
}

// An author is a domain that has much to say about its policy.
type author string

func (a author) Check(context.Context, netip.Addr, string, string) spf.Outcome {
	return spf.Outcome{Result: spf.Fail, Explanation: string(a), Reason: string(a), TTL: time.Hour}
}

// An explanation may have 64 KB, and a stranger may have any number of domains.
func TestOutcomesAreKeptSmall(t *testing.T) {
	j := New(author(strings.Repeat("no ", 20_000)), Policy{}, nil)
	ip := netip.MustParseAddr("192.0.2.1")
	j.Check(t.Context(), ip, "mx.a.example", "x@a.example")
	o, ok := j.outcomes.get(outcomeKey{ip: ip, domain: "a.example"}, time.Now())
	if n := len(o.Explanation) + len(o.Reason); !ok || n == 0 || n > 1000 {
		t.Errorf("%d octets are kept: %v", n, ok)
	}
}
