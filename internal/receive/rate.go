package receive

import (
	"net/netip"
	"sync"
	"time"
)

// A forgeries counts the forged SRS addresses of each client, so that whoever
// guesses hashes gains nothing by many sessions. It is bounded: when it is full
// it begins anew, which a guesser can bring about only from thousands of
// addresses.
type forgeries struct {
	mu    sync.Mutex
	count map[netip.Addr]int
	since time.Time
}

const (
	forgeriesWindow  = 10 * time.Minute
	forgeriesAllowed = 200 // of one client in the window
	forgeriesClients = 10_000
)

// add counts one and says whether the client has had too many. An IPv6 client
// has a whole network of addresses, and counts as one.
func (f *forgeries) add(ip netip.Addr, now time.Time) bool {
	if ip.Is6() {
		ip = networkOf(ip).Addr()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count == nil || now.Sub(f.since) > forgeriesWindow || len(f.count) >= forgeriesClients {
		f.count, f.since = map[netip.Addr]int{}, now
	}
	f.count[ip]++
	return f.count[ip] > forgeriesAllowed
}
