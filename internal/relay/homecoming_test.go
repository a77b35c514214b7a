package relay

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"srsd/envelope"
)

// TestExpand says whether whoever asked for a report of success gets one from
// one place: this relay for an alias of several targets, and the target's side
// for all others.
func TestExpand(t *testing.T) {
	names := []string{"a@x.example", "b@x.example", "c@x.example"}
	rapid.Check(t, func(t *rapid.T) {
		var routes []envelope.Route
		count := map[envelope.Address]int{}
		for _, name := range names {
			alias := envelope.MustParse(name)
			notify := envelope.Notify(rapid.SampledFrom([]int{0, 1, 2, 4, 6, 10, 14}).Draw(t, "notify"))
			for i := range rapid.IntRange(0, 3).Draw(t, "targets") {
				target, err := envelope.NewAddress(string(rune('p'+i)), "t.example")
				if err != nil {
					t.Fatal(err)
				}
				routes = append(routes, envelope.Route{Alias: alias, Target: target, Notify: notify})
				count[alias]++
			}
		}
		before := slices.Clone(routes)
		left, about := expand(routes)
		if !slices.EqualFunc(before, routes, equalRoutes) {
			t.Fatal("the routes of the client have changed")
		}
		for i, r := range routes {
			told := 0
			for _, a := range about {
				if a.Alias == r.Alias {
					told++
				}
			}
			asked := r.Notify&envelope.NotifySuccess != 0
			switch {
			case asked && count[r.Alias] > 1 && (told != 1 || left[i].Notify&envelope.NotifySuccess != 0 || left[i].Notify == 0):
				t.Fatalf("%v: told %d times, %v is passed on", r, told, left[i].Notify)
			case !(asked && count[r.Alias] > 1) && (told != 0 || left[i].Notify != r.Notify):
				t.Fatalf("%v: told %d times, %v is passed on", r, told, left[i].Notify)
			case (left[i].Notify == 0 || left[i].Notify&envelope.NotifyFailure != 0) != (r.Notify == 0 || r.Notify&envelope.NotifyFailure != 0):
				t.Fatalf("%v: failures are asked for otherwise: %v", r, left[i].Notify)
			}
		}
	})
}

func equalRoutes(a, b envelope.Route) bool {
	return a.Alias == b.Alias && a.Target == b.Target && a.Notify == b.Notify
}
