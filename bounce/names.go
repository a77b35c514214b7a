package bounce

import "srsd/envelope"

// Bounds of what one report may make us look up.
const (
	maxAliases = 50   // addresses of ours in it
	maxNames   = 1000 // targets behind them
	maxFailed  = 20   // recipients that it is about
)

// names finds the targets that are to be hidden in a report to somebody, each
// with its alias; about are those that the report is about. The report names
// the alias itself, most times: srsd writes it into Delivered-To on the way
// out, and the sender has written it into To. Only where it names none of ours
// is the alias table searched. An address in the places that say who failed is
// a target too, whoever knows it: a target may forward.
//
// ok is false where somebody is named and we cannot say what stands for him.
func (h Hider) names(r *reading, to envelope.Address) (all, about []name, ok bool) {
	n := namer{Hider: h, to: to, known: map[string]name{}}
	if n.ours(r); len(n.all) == 0 {
		n.search(r)
	}
	if len(n.all) > maxNames || len(r.failed.list) > maxFailed {
		return nil, nil, false
	}
	n.choose(r)
	named := n.relatives(r)
	for _, a := range r.failed.list {
		if n.open(a) {
			continue
		}
		hit, known := n.known[a.Key()]
		if !known && n.main.alias.IsNull() {
			return nil, nil, false
		}
		if !known {
			hit = name{a, n.main.alias, n.only(n.main)}
			n.add(hit)
		}
		about = append(about, hit)
	}
	if len(about) == 0 && len(r.failed.list) == 0 {
		about = named
	}
	return n.all, about, len(n.all) > 0 || len(r.failed.list) > 0
}

// A namer collects names.
type namer struct {
	Hider
	to    envelope.Address
	all   []name
	known map[string]name // by the target's key
	main  name            // the alias that the report is most likely about
}

func (n *namer) add(x name) {
	if _, ok := n.known[x.target.Key()]; !ok && !n.open(x.target) {
		n.known[x.target.Key()] = x
		n.all = append(n.all, x)
	}
}

// open says whether an address is no secret: it is the reader's own, or ours.
func (n *namer) open(a envelope.Address) bool {
	return a.Key() == n.to.Key() || n.Ours(a)
}

// ours adds what is behind the addresses of ours that the report names; those
// in Delivered-To first, because where aliases share a target, it came through
// them.
func (n *namer) ours(r *reading) {
	asked := 0
	for _, set := range []addressSet{r.delivered, r.named} {
		for _, a := range set.list {
			if !n.Ours(a) || asked > 2*maxAliases {
				continue
			}
			asked++
			for _, t := range n.Targets(a) {
				n.add(name{t, a, t})
			}
		}
	}
}

// search asks the table for the aliases of what the report names.
func (n *namer) search(r *reading) {
	asked := r.failed.list
	if len(asked) == 0 {
		asked = r.named.list
	}
	asked = exclude(asked, n.open)
	if len(asked) == 0 || len(asked) > maxFailed {
		return
	}
	for _, target := range asked {
		aliases := n.Aliases(target)
		if len(aliases) == 0 {
			continue
		}
		n.add(name{target, aliases[0], target})
		for _, t := range n.Targets(aliases[0]) {
			n.add(name{t, aliases[0], t})
		}
	}
}

// choose finds the alias that the report is most likely about: one whose target
// it names where it says who failed, or anywhere, else the first.
func (n *namer) choose(r *reading) {
	for _, set := range []*addressSet{&r.failed, &r.named} {
		for _, x := range n.all {
			if set.has(x.target) {
				n.main = x
				return
			}
		}
	}
	if len(n.all) > 0 {
		n.main = n.all[0]
	}
}

// only returns the mailbox of a name whose alias has no other.
func (n *namer) only(main name) envelope.Address {
	for _, x := range n.all {
		if x.alias == main.alias && x.mailbox != main.mailbox {
			return envelope.Address{}
		}
	}
	return main.mailbox
}

// relatives adds the other names of the targets' mailboxes that the report
// uses, and returns the targets that it names.
func (n *namer) relatives(r *reading) (named []name) {
	bare := map[string][]name{}
	for _, x := range n.all {
		k := bareLocal(x.target)
		bare[k] = append(bare[k], x)
	}
	for _, a := range r.named.list {
		if x, ok := n.known[a.Key()]; ok {
			named = append(named, x)
			continue
		}
		for _, x := range bare[bareLocal(a)] {
			if sameMailbox(a, x.target) {
				n.add(name{a, x.alias, x.mailbox})
				break
			}
		}
	}
	return named
}
