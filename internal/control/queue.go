package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"srsd/store"
)

// page is how many entries are read, or changed, at a time.
const page = 200

// maxHeader is how much of a message header Show shows.
const maxHeader = 64 << 10

// Selection is what a request of the queue is about.
type Selection struct {
	store.Filter
	Failed bool // entries of which nothing is left but failed deliveries, too
}

// Shown is one entry with what there is of its header.
type Shown struct {
	Entry  store.Entry
	Header string // "" where the body is gone
	Note   string // why there is no header
}

// Changed says how many deliveries an edit has changed so far.
type Changed struct{ Changed int }

type editArgs struct {
	Filter store.Filter
	Action store.Action
}

// queueVerbs are the verbs of the queue.
type queueVerbs struct{ queue store.Queue }

func (q queueVerbs) list(ctx context.Context, args json.RawMessage, say func(any) error) error {
	return q.each(ctx, args, func(e store.Entry) error { return say(e) })
}

func (q queueVerbs) count(ctx context.Context, args json.RawMessage, say func(any) error) error {
	if bytes.Equal(args, everything) {
		n, err := q.queue.Count(ctx)
		if err != nil {
			return err
		}
		return say(n)
	}
	n := 0
	if err := q.each(ctx, args, func(store.Entry) error { n++; return nil }); err != nil {
		return err
	}
	return say(n)
}

// everything is the selection of the whole queue.
var everything, _ = json.Marshal(Selection{})

// each calls fn for the entries of a selection.
func (q queueVerbs) each(ctx context.Context, args json.RawMessage, fn func(store.Entry) error) error {
	var s Selection
	if err := json.Unmarshal(args, &s); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	for cursor := ""; ; {
		entries, next, err := q.queue.List(ctx, s.Filter, cursor, page)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !s.Failed && !alive(e) {
				continue
			}
			if err := fn(e); err != nil {
				return err
			}
		}
		if cursor = next; next == "" {
			return nil
		}
	}
}

func alive(e store.Entry) bool {
	for _, d := range e.Deliveries {
		if d.State != store.Failed {
			return true
		}
	}
	return false
}

func (q queueVerbs) show(ctx context.Context, args json.RawMessage, say func(any) error) error {
	var id string
	if err := json.Unmarshal(args, &id); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	entries, _, err := q.queue.List(ctx, store.Filter{IDs: []string{id}}, "", 1)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return fmt.Errorf("%w: %s", store.ErrNotFound, id)
	}
	shown := Shown{Entry: entries[0]}
	body, err := q.queue.OpenBody(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		shown.Note = "the text has been removed: nothing is left to deliver"
	case err != nil:
		shown.Note = err.Error()
	default:
		shown.Header, err = header(body)
		body.Close()
		if err != nil {
			shown.Note = err.Error()
		}
	}
	return say(shown)
}

// header is the header section of a message, or its beginning.
func header(body store.StoredBody) (string, error) {
	b, err := io.ReadAll(io.NewSectionReader(body, 0, min(body.Size(), maxHeader)))
	if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
		b = b[:i+2]
	}
	return string(b), err
}

// edit changes a page at a time, so that the client sees how it goes on.
func (q queueVerbs) edit(ctx context.Context, args json.RawMessage, say func(any) error) error {
	var a editArgs
	if err := json.Unmarshal(args, &a); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	sum := 0
	for cursor := ""; ; {
		entries, next, err := q.queue.List(ctx, a.Filter, cursor, page)
		if err != nil {
			return err
		}
		f := a.Filter
		f.IDs = make([]string, len(entries))
		for i, e := range entries {
			f.IDs[i] = e.ID
		}
		if len(entries) > 0 {
			n, err := q.queue.Edit(ctx, f, a.Action)
			if err != nil {
				return err
			}
			sum += n
		}
		if err := say(Changed{sum}); err != nil {
			return err
		}
		if cursor = next; next == "" {
			return nil
		}
	}
}
