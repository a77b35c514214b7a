package receive

import (
	"net/netip"
	"sync"
	"time"
)

// A forgeries counts the forged SRS addresses of each network, so that whoever
// guesses hashes gains nothing by many sessions. It is bounded: when it is full
// it begins anew, which a guesser can bring about only from thousands of
// networks.
type forgeries struct {
	mu    sync.Mutex
	count map[netip.Prefix]int
	since time.Time
}

const (
	forgeriesWindow   = 10 * time.Minute
	forgeriesAllowed  = 200 // of one network in the window
	forgeriesNetworks = 10_000
)

// add counts one and says whether the network has had too many.
func (f *forgeries) add(network netip.Prefix, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count == nil || now.Sub(f.since) > forgeriesWindow || len(f.count) >= forgeriesNetworks {
		f.count, f.since = map[netip.Prefix]int{}, now
	}
	f.count[network]++
	return f.count[network] > forgeriesAllowed
}
