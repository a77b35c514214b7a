package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"srsd/store"
)

// A Server answers on the socket of a running relay. Set its fields before
// Serve.
type Server struct {
	Queue  store.Queue
	Verbs  map[string]Verb // more than those of the queue, by name
	Logger *slog.Logger    // nil: slog.Default

	once sync.Once
	http http.Server
}

func (s *Server) start() {
	s.once.Do(func() {
		if s.Logger == nil {
			s.Logger = slog.Default()
		}
		mux := http.NewServeMux()
		q := queueVerbs{s.Queue}
		for name, verb := range map[string]Verb{
			"queue/list": q.list, "queue/show": q.show, "queue/count": q.count, "queue/edit": q.edit,
		} {
			mux.Handle("POST /"+name, s.handler(name, verb))
		}
		for name, verb := range s.Verbs {
			mux.Handle("POST /"+name, s.handler(name, verb))
		}
		s.http = http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(s.Logger.Handler(), slog.LevelWarn)}
	})
}

// Serve answers until Shutdown, and then returns nil.
func (s *Server) Serve(l net.Listener) error {
	s.start()
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown ends Serve. It waits for requests under way until ctx ends, and then
// cuts them off.
func (s *Server) Shutdown(ctx context.Context) error {
	s.start()
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}

// maxRequest bounds what a request may hold: some ten thousand queue ids.
const maxRequest = 1 << 20

// flushEvery is how long a client waits for what is ready: a person looks on.
const flushEvery = 100 * time.Millisecond

// lastLine ends every answer.
type lastLine struct {
	End   bool   `json:"end,omitempty"`
	Error string `json:"error,omitempty"`
	Kind  string `json:"kind,omitempty"` // "not found", where a client acts on it
}

func (s *Server) handler(name string, verb Verb) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		args, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		out := json.NewEncoder(w)
		out.SetEscapeHTML(false)
		flushed := time.Now()
		say := func(v any) error {
			if err := out.Encode(v); err != nil || time.Since(flushed) < flushEvery {
				return err
			}
			flushed = time.Now()
			return http.NewResponseController(w).Flush()
		}
		err = verb(r.Context(), args, say)
		last := lastLine{End: err == nil}
		if err != nil {
			last.Error = err.Error()
			if errors.Is(err, store.ErrNotFound) {
				last.Kind = "not found"
			}
			s.Logger.Warn("control request failed", "verb", name, "error", err)
		}
		out.Encode(last) // the client may be gone, which is its business
	}
}
