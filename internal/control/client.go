package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"srsd/store"
)

// A Client asks a running relay.
type Client struct{ http http.Client }

// Dial returns a client for the relay on a data directory: ErrNotRunning where
// there is none.
func Dial(dataDir string) (*Client, error) {
	c, err := dial(context.Background(), dataDir)
	if err != nil {
		return nil, err
	}
	c.Close()
	return &Client{http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, dataDir) },
	}}}, nil
}

// errCut is an answer without its last line.
var errCut = errors.New("control: srsd ended before its answer did")

// Do asks for a verb, and calls fn with each value of the answer. A relay that
// does not know the verb is of another version.
func (c *Client) Do(ctx context.Context, verb string, args any, fn func(json.RawMessage) error) error {
	body, err := json.Marshal(args)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://srsd/"+verb, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("control: the running srsd refuses %q: %s", verb, answer.Status)
	}
	return read(answer.Body, fn)
}

// read calls fn for all lines but the last one.
func read(r io.Reader, fn func(json.RawMessage) error) error {
	in := json.NewDecoder(r)
	var line json.RawMessage
	for have := false; ; have = true {
		var next json.RawMessage
		if err := in.Decode(&next); err == io.EOF {
			break
		} else if err != nil {
			return errCut
		}
		if have {
			if err := fn(line); err != nil {
				return err
			}
		}
		line = next
	}
	var last lastLine
	switch err := json.Unmarshal(line, &last); {
	case err != nil || !last.End && last.Error == "":
		return errCut
	case last.Kind == "not found":
		return answerError{last.Error, store.ErrNotFound}
	case last.Error != "":
		return errors.New(last.Error)
	}
	return nil
}

// An answerError is an error of the relay that errors.Is finds again here.
type answerError struct {
	text string
	is   error
}

func (e answerError) Error() string { return e.text }
func (e answerError) Unwrap() error { return e.is }

// List calls fn for the entries of a selection, in the order of their ids.
func (c *Client) List(ctx context.Context, s Selection, fn func(store.Entry) error) error {
	return c.Do(ctx, "queue/list", s, func(line json.RawMessage) error {
		var e store.Entry
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("control: %w", err)
		}
		return fn(e)
	})
}

// Count counts the entries of a selection.
func (c *Client) Count(ctx context.Context, s Selection) (n int, err error) {
	err = c.Do(ctx, "queue/count", s, func(line json.RawMessage) error { return json.Unmarshal(line, &n) })
	return n, err
}

// Show returns one entry; the error wraps store.ErrNotFound where there is none.
func (c *Client) Show(ctx context.Context, id string) (s Shown, err error) {
	err = c.Do(ctx, "queue/show", id, func(line json.RawMessage) error { return json.Unmarshal(line, &s) })
	return s, err
}

// Edit acts on what a filter selects and returns how many deliveries it has
// changed; progress, where it is not nil, hears of it on the way.
func (c *Client) Edit(ctx context.Context, f store.Filter, a store.Action, progress func(changed int)) (int, error) {
	var now Changed
	err := c.Do(ctx, "queue/edit", editArgs{f, a}, func(line json.RawMessage) error {
		if err := json.Unmarshal(line, &now); err != nil {
			return fmt.Errorf("control: %w", err)
		}
		if progress != nil {
			progress(now.Changed)
		}
		return nil
	})
	return now.Changed, err
}
