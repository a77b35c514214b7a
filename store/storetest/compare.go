package storetest

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"slices"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"srsd/envelope"
	"srsd/store"
)

func (m *model) restart(r *rapid.T) {
	must(r, m.engine.Close())
	m.engine = m.open(m.t, m.dir, m.clock.now)
	m.leases = nil
	for _, d := range m.all() {
		d.token = 0
		if d.State == store.Leased {
			d.State = store.Queued
		}
		d.at = d.Due
		switch d.wish {
		case store.Drop:
			m.remove(d)
		case store.Hold:
			d.State, d.wish = store.Held, ""
		}
	}
}

func (m *model) body(r *rapid.T) {
	if len(m.entries) == 0 {
		return
	}
	id := rapid.SampledFrom(slices.Sorted(maps.Keys(m.entries))).Draw(r, "id")
	e := m.entries[id]
	body, err := m.engine.OpenBody(r.Context(), id)
	if !slices.ContainsFunc(e.deliveries, func(d *modelDelivery) bool { return d.State != store.Failed }) {
		if !errors.Is(err, store.ErrNotFound) {
			r.Fatalf("the body of a failed entry: %v", err)
		}
		return
	}
	must(r, err)
	defer body.Close()
	got, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
	must(r, err)
	if !bytes.Equal(got, e.body) {
		r.Fatalf("body of %d octets, want %d", len(got), len(e.body))
	}
}

func (m *model) filter(r *rapid.T) { m.list(r, m.drawFilter(r)) }

// same compares the whole queue.
func (m *model) same(r *rapid.T) {
	m.list(r, store.Filter{})
	want := 0
	for _, e := range m.entries {
		if slices.ContainsFunc(e.deliveries, func(d *modelDelivery) bool { return d.State != store.Failed }) {
			want++
		}
	}
	got, err := m.engine.Count(r.Context())
	must(r, err)
	if got != want {
		r.Fatalf("count %d, want %d", got, want)
	}
}

func (m *model) list(r *rapid.T, f store.Filter) {
	var want []store.Entry
	for _, id := range slices.Sorted(maps.Keys(m.entries)) {
		e := store.Entry{Message: m.entries[id].message}
		selected := false
		for _, d := range m.entries[id].deliveries {
			selected = selected || f.Matches(e.Message, d.Delivery)
			x := d.Delivery
			if x.State == store.Queued || x.State == store.Held {
				x.Due = d.at
			}
			e.Deliveries = append(e.Deliveries, x)
		}
		if selected {
			want = append(want, e)
		}
	}
	var got []store.Entry
	for cursor := ""; ; {
		entries, next, err := m.engine.List(r.Context(), f, cursor, 3)
		must(r, err)
		got = append(got, entries...)
		if cursor = next; next == "" {
			break
		}
	}
	equal(r, want, got)
}

// equal compares what an engine gave with what was stored. When a failed
// delivery is forgotten is the engine's business.
func equal(r rapid.TB, want, got any) {
	r.Helper()
	forgotten := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Due" }, cmp.Ignore())
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(envelope.Address{}, envelope.Client{}), cmp.FilterPath(isFailed, forgotten)); diff != "" {
		r.Fatalf("want -, got +:\n%s", diff)
	}
}

// isFailed says whether a path is inside a failed delivery.
func isFailed(p cmp.Path) bool {
	for _, step := range p {
		if v, _ := step.Values(); v.IsValid() && v.CanInterface() {
			if d, ok := v.Interface().(store.Delivery); ok && d.State == store.Failed {
				return true
			}
		}
	}
	return false
}
