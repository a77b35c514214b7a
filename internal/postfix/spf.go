package postfix

import (
	"net/netip"
	"strings"

	"srsd/internal/sender"
)

// receivedSPF is the body of the Received-SPF field about a verdict, folded with
// CRLF; "" where nothing was checked.
func (r *rules) receivedSPF(v sender.Verdict, ip netip.Addr, helo, from string) string {
	if len(v.Checks) == 0 {
		return ""
	}
	return v.Checks[len(v.Checks)-1].ReceivedSPF(r.Hostname, ip, helo, from)
}

// unfolded is a folded header body as one line.
func unfolded(s string) string {
	return strings.Join(strings.Fields(s), " ")
}
