package deliver

import (
	"slices"
	"time"

	"srsd/envelope"
	"srsd/store"
)

// An entryBuilder collects what of a message must be queued.
type entryBuilder struct {
	queued   []waiting // not tried
	runs     []*run    // under way; one for each leased delivery, in order
	leased   []store.Delivery
	deferred []result
	refused  []result // reported together with what is deferred
	failed   []result // listed only
}

// maxSpent is how many refused routes stand in one delivery: their refusals are
// kept as its attempts, of which the store keeps the last 20.
const maxSpent = 16

type waiting struct {
	*group
	due time.Time
}

// queue adds a group that has not been tried.
func (b *entryBuilder) queue(g *group, due time.Time) { b.queued = append(b.queued, waiting{g, due}) }

// lease adds a run under way. Its routes are those that it began with: the
// replies are being written meanwhile.
func (b *entryBuilder) lease(r *run) {
	for _, x := range byDomain(r.routes()) {
		b.leased = append(b.leased, store.Delivery{Domain: x.domain, Routes: x.routes, State: store.Leased})
		b.runs = append(b.runs, r)
	}
}

// entry makes the queue entry: leased deliveries first, because their leases
// come back in order.
func (b *entryBuilder) entry(p *Policy, m envelope.Message, now time.Time) store.Entry {
	e := store.Entry{Message: m, Deliveries: b.leased}
	for _, q := range b.queued {
		for _, x := range byDomain(q.routes()) {
			e.Deliveries = append(e.Deliveries, store.Delivery{Domain: x.domain, Routes: x.routes, State: store.Queued, Due: q.due})
		}
	}
	for _, x := range byDomain(routesOf(b.deferred)) {
		e.Deliveries = append(e.Deliveries, store.Delivery{Domain: x.domain, Routes: x.routes, State: store.Queued,
			Attempts: attempts(ofRoutes(b.deferred, x.routes), now), Tries: 1, Due: now.Add(jitter(p.wait(1)))})
	}
	for _, x := range byDomain(routesOf(b.refused)) {
		for routes := range slices.Chunk(x.routes, maxSpent) {
			e.Deliveries = append(e.Deliveries, store.Delivery{Domain: x.domain, Routes: routes, State: store.Queued,
				Attempts: attempts(ofRoutes(b.refused, routes), now), Tries: 1, Due: now.Add(p.patience())})
		}
	}
	for _, x := range byDomain(routesOf(b.failed)) {
		e.Deliveries = append(e.Deliveries, store.Delivery{Domain: x.domain, Routes: x.routes, State: store.Failed,
			Attempts: attempts(ofRoutes(b.failed, x.routes), now), Tries: 1, Due: now})
	}
	e.Routes = nil
	for i := range e.Deliveries {
		e.Deliveries[i].Entry, e.Deliveries[i].N = m.ID, i
		e.Routes = append(e.Routes, e.Deliveries[i].Routes...)
	}
	return e
}

// routes are all routes of a group.
func (g *group) routes() []envelope.Route {
	all := make([]envelope.Route, 0, len(g.rcpts))
	for i := range g.rcpts {
		all = append(append(all, g.rcpts[i].route), g.rcpts[i].same...)
	}
	return all
}

func routesOf(results []result) []envelope.Route {
	all := make([]envelope.Route, len(results))
	for i, r := range results {
		all[i] = r.route
	}
	return all
}

// ofRoutes selects the results about some routes.
func ofRoutes(all []result, routes []envelope.Route) []result {
	return slices.DeleteFunc(slices.Clone(all), func(r result) bool {
		return !slices.ContainsFunc(routes, func(q envelope.Route) bool { return q.Target == r.route.Target && q.Alias == r.route.Alias })
	})
}

// A share is the routes of one next-hop domain.
type share struct {
	domain string
	routes []envelope.Route
}

// byDomain sorts routes into shares, in the order in which they come.
func byDomain(routes []envelope.Route) (all []share) {
	place := map[string]int{}
	for _, r := range routes {
		domain := queueDomain(r.Target)
		i, ok := place[domain]
		if !ok {
			i = len(all)
			place[domain] = i
			all = append(all, share{domain: domain})
		}
		all[i].routes = append(all[i].routes, r)
	}
	return all
}
