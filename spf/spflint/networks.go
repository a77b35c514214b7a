package spflint

import (
	"math/big"
	"net/netip"
	"slices"
)

// disjoint sorts networks and leaves out those that lie in others. Two networks
// either are disjoint or one holds the other.
func disjoint(nets []netip.Prefix) []netip.Prefix {
	nets = slices.Clone(nets)
	slices.SortFunc(nets, netip.Prefix.Compare)
	var out []netip.Prefix
	for _, p := range nets {
		if len(out) == 0 || !out[len(out)-1].Contains(p.Addr()) {
			out = append(out, p)
		}
	}
	return out
}

// count is how many addresses of one family disjoint networks hold.
func count(nets []netip.Prefix, v4 bool) *big.Int {
	n := new(big.Int)
	for _, p := range nets {
		if p.Addr().Is4() == v4 {
			n.Add(n, new(big.Int).Lsh(big.NewInt(1), uint(p.Addr().BitLen()-p.Bits())))
		}
	}
	return n
}
