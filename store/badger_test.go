package store_test

import (
	"flag"
	"log/slog"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"srsd/store"
	"srsd/store/storetest"
)

var long = flag.Bool("long", false, "run the slow tests too")

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		crashChild(dir)
	}
	flag.Parse()
	if !*long {
		flag.Set("rapid.checks", "10")
	}
	goleak.VerifyTestMain(m)
}

func open(t testing.TB, dir string, now func() time.Time) storetest.Engine {
	return openWith(t, dir, store.Options{Now: now})
}

func openWith(t testing.TB, dir string, o store.Options) *store.Badger {
	t.Helper()
	if o.Reserve == 0 {
		o.Reserve = -1
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := store.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) { storetest.Run(t, open) }
