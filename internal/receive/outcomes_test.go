package receive

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"srsd/envelope"
	"srsd/spf"
)

// An author is a domain that has much to say about its policy.
type author string

func (a author) Check(context.Context, netip.Addr, string, string) spf.Outcome {
	return spf.Outcome{Result: spf.Fail, Explanation: string(a), Reason: string(a), TTL: time.Hour}
}

// An explanation may have 64 KB, and a stranger may have any number of domains.
func TestOutcomesAreKeptSmall(t *testing.T) {
	s := &session{server: New(Config{}), conn: &conn{ip: netip.MustParseAddr("192.0.2.1")}}
	defer s.server.Shutdown(t.Context())
	tx := &transaction{policy: Policy{SPF: author(strings.Repeat("no ", 20_000))}.withDefaults(), from: envelope.MustParse("x@a.example")}
	s.check(tx, "x@a.example")
	o, ok := tx.policy.outcomes.get(outcomeKey{ip: s.conn.ip, domain: "a.example"}, time.Now())
	if n := len(o.Explanation) + len(o.Reason); !ok || n == 0 || n > 1000 {
		t.Errorf("%d octets are kept: %v", n, ok)
	}
}
