package store_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"srsd/store"
)

var (
	inspect = flag.String("inspect", "", "a data directory for TestInspect, which other tests run in a process of its own")
	expect  = flag.String("expect", "", "the ids that must be there")
)

// TestInspect opens a store that may be damaged in any way, and says what it
// found: "refused: …", "reported: …" or "silent: …".
func TestInspect(t *testing.T) {
	if *inspect == "" {
		t.Skip("run by other tests")
	}
	s, err := store.Open(*inspect, store.Options{Reserve: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println("refused:", err)
		return
	}
	defer s.Close()
	want := strings.Split(*expect, ",")
	lost := 0
	for _, id := range want {
		e, _, err := s.List(context.Background(), store.Filter{IDs: []string{id}}, "", 1)
		if err != nil || len(e) != 1 {
			lost++
			continue
		}
		body, err := s.OpenBody(context.Background(), id)
		if err != nil {
			lost++
			continue
		}
		text, _ := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
		body.Close()
		if strings.Trim(string(text), id+"\r\n") != "" || len(text) < 29_000 {
			fmt.Println("silent: a damaged body was delivered:", id)
		}
	}
	again := 0
	for id := range listed(t, s) {
		if !slices.Contains(want, id) {
			again++
		}
	}
	d := checked(t, s)
	d.Checked = false
	switch {
	case d.Missing+d.Damaged != lost || again > 0:
		fmt.Printf("silent: %d lost, %d come again, reported %+v\n", lost, again, d)
	case lost > 0:
		fmt.Printf("reported: %d\n", lost)
	}
}
