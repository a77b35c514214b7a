package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"srsd/envelope"
	"srsd/forward"
	"srsd/internal/control"
	"srsd/internal/deliver"
	"srsd/internal/postfix"
	"srsd/internal/receive"
	"srsd/internal/resolve"
	"srsd/internal/suspend"
	"srsd/srs"
	"srsd/store"
)

// Options are what a relay takes from its surroundings. The zero value is the
// real world.
type Options struct {
	Logger *slog.Logger     // nil: nothing is logged
	Now    func() time.Time // nil: time.Now
}

// grace is how long a message that is being received, and then the attempts to
// deliver, may take when srsd ends.
const grace = 30 * time.Second

// A Relay is a whole srsd: the way in, the way out, the store, the doors for
// Postfix. New builds it and opens its ports, Run runs it to its end.
type Relay struct {
	options  Options
	log      *slog.Logger
	resolver *resolve.Resolver
	store    *store.Badger
	deliver  *deliver.Deliverer
	receive  *receive.Server // nil where only the doors for Postfix are open
	control  *control.Server
	suspend  *suspend.List
	socket   net.Listener // of control

	ports   *listeners
	smtp    []net.Listener
	smtpTLS []net.Listener
	doors   []door
	postfix *postfix.Server // behind the doors

	reloading sync.Mutex
	failed    int                                // reloads; reloading guards it
	live      atomic.Pointer[live]               // what a reload swaps
	rewatch   atomic.Pointer[context.CancelFunc] // makes watch look at the files of live again
}

// live is everything that a reload makes anew. It does not change.
type live struct {
	config    Config
	table     *forward.Table
	rewriters map[string]*srs.Rewriter
	router    *forward.Router
	tls       *tls.Config
}

// New builds a relay, opens its store and its ports, and becomes the user that
// the configuration names. Nothing is accepted before Run.
func New(c Config, o Options) (_ *Relay, err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Relay{options: o, log: o.Logger}
	if r.ports, err = newListeners(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.ports.close()
			if r.socket != nil {
				r.socket.Close()
			}
			if r.store != nil {
				err = errors.Join(err, r.store.Close())
			}
		}
	}()
	if err := c.makeDataDir(); err != nil {
		return nil, err
	}
	// Whoever sees a port open may rely on all else, so the ports come last;
	// but root's must be open before srsd is somebody else.
	drops := c.User != "" && os.Geteuid() == 0
	if drops {
		if err := errors.Join(r.listen(c), become(c.User)); err != nil {
			return nil, err
		}
	}
	l, err := r.prepare(c)
	if err != nil {
		return nil, err
	}
	if !drops {
		if err := r.listen(c); err != nil {
			return nil, err
		}
	}
	if r.socket, err = control.Listen(c.DataDir); err != nil {
		return nil, err
	}
	return r, r.build(l)
}

// prepare reads the files that the configuration names, and opens the store.
func (r *Relay) prepare(c Config) (*live, error) {
	made, err := c.makeSecrets()
	if err != nil {
		return nil, fmt.Errorf("srs.secrets: %w", err)
	}
	if made {
		r.log.Info("made a key for SRS", "file", c.secretsFile())
	}
	r.resolver = r.newResolver(c)
	l, err := r.load(c) // before the store: an error here is the likeliest one
	if err != nil {
		return nil, err
	}
	r.warn(l)
	if r.store, err = store.Open(c.DataDir, store.Options{Logger: r.log, Now: r.options.Now}); err != nil {
		return nil, err
	}
	if err := r.makeTempDir(c); err != nil {
		return nil, err
	}
	l.keepSenders(r.store, r.options.Now)
	return l, nil
}

// makeTempDir makes the folder of the message texts that are too large for
// memory, empty: what a crash has left there was never answered for.
func (r *Relay) makeTempDir(c Config) error {
	if err := os.RemoveAll(c.tempDir()); err != nil {
		return err
	}
	return os.Mkdir(c.tempDir(), 0o700)
}

func (c *Config) tempDir() string { return filepath.Join(c.DataDir, "tmp") }

// listen opens every port of the configuration.
func (r *Relay) listen(c Config) error {
	for _, a := range c.Receive.Listen {
		ln, err := r.ports.listen("receive.listen", "tcp", a)
		if err != nil {
			return err
		}
		r.smtp = append(r.smtp, ln)
	}
	for _, a := range c.Receive.ListenTLS {
		ln, err := r.ports.listen("receive.listen_tls", "tcp", a)
		if err != nil {
			return err
		}
		r.smtpTLS = append(r.smtpTLS, ln)
	}
	if err := r.openDoors(c); err != nil {
		return err
	}
	return r.ports.unused()
}

func (r *Relay) newResolver(c Config) *resolve.Resolver {
	return resolve.New(resolve.Config{
		Servers: c.DNS.Servers, Timeout: time.Duration(c.DNS.Timeout), Logger: r.log, Now: r.options.Now,
	})
}

// load makes what a configuration says, from its files.
func (r *Relay) load(c Config) (*live, error) {
	keys, err := srs.LoadKeys(c.secretsFile())
	if err != nil {
		return nil, err
	}
	return r.loadWith(c, keys)
}

func (r *Relay) loadWith(c Config, keys srs.Keys) (*live, error) {
	l := &live{config: c}
	var err error
	if l.rewriters, err = c.rewriters(keys, r.options.Now); err != nil {
		return nil, err
	}
	if l.table, err = c.Table(); err != nil {
		return nil, err
	}
	if l.tls, err = c.certificate(); err != nil {
		return nil, err
	}
	l.router = newRouter(&c, l.table, l.rewriters)
	return l, nil
}

// keepSenders lets the router keep senders that are too long. It comes after
// load, which works without a store, and before the router's first use.
func (l *live) keepSenders(state store.State, now func() time.Time) {
	l.router.Keeper = keeper{state: state, rewriters: l.rewriters, keep: time.Duration(l.config.SRS.MaxAge) + 2*day, now: now}
}

func newRouter(c *Config, table *forward.Table, rewriters map[string]*srs.Rewriter) *forward.Router {
	byDomain := map[string]forward.Rewriter{}
	for domain, rw := range rewriters {
		byDomain[domain] = rw
	}
	for _, domain := range c.SRS.Retired {
		byDomain[strings.ToLower(domain)] = rewriters[strings.ToLower(c.SRS.Domain)]
	}
	srsDomain := map[string]string{}
	for alias, domain := range c.SRS.Domains {
		srsDomain[strings.ToLower(alias)] = strings.ToLower(domain)
	}
	router := &forward.Router{
		Table: table, SRS: byDomain,
		SRSDomain: func(alias string) string {
			if d, ok := srsDomain[alias]; ok {
				return d
			}
			return strings.ToLower(c.SRS.Domain)
		},
	}
	for _, a := range c.SRS.AllowFrom {
		if address, err := envelope.ParseAddress(a); err == nil { // check has parsed it
			router.AllowFrom = append(router.AllowFrom, address)
		}
	}
	return router
}

// NewRouter makes the router of a configuration for a look at it from outside:
// it keeps nothing and counts nothing.
func NewRouter(c Config) (*forward.Router, error) {
	rewriters, err := c.Rewriters(nil)
	if err != nil {
		return nil, err
	}
	table, err := c.Table()
	if err != nil {
		return nil, err
	}
	return newRouter(&c, table, rewriters), nil
}

// build makes the parts that live as long as the relay.
func (r *Relay) build(l *live) error {
	r.live.Store(l)
	out, err := l.config.deliverPolicy(ownAddresses(r.ports.open))
	if err != nil {
		return err
	}
	if err := r.openSuspend(l); err != nil {
		return err
	}
	r.deliver = deliver.New(deliver.Config{
		Hostname: l.config.Hostname, Queue: r.store, Resolver: r.resolver, Reporter: reporter{r}, Home: r.hide,
		Observe: r.suspend.Observe,
		Logger:  r.log, Now: r.options.Now, Policy: out,
	})
	r.postfix = postfix.New(postfix.Config{Settings: r.doorSettings(l), Logger: r.log})
	r.control = &control.Server{Queue: operated{r.store, r.deliver}, Logger: r.log, Verbs: r.suspendVerbs()}
	if !l.config.Relays() {
		return nil
	}
	r.receive = receive.New(receive.Config{
		Deliverer: homecoming{relay: r, next: r.deliver},
		Policy:    r.receivePolicy(l), TLS: r.serverTLS(l), TempDir: l.config.tempDir(),
		Memory: int64(l.config.Receive.Memory), Resolver: r.resolver, Room: r.store.Free, Logger: r.log, Now: r.options.Now,
	})
	return nil
}

func (r *Relay) receivePolicy(l *live) receive.Policy {
	f := front{Router: l.router, state: r.store, suspend: r.suspend, bounce: l.config.Bounce, log: r.log}
	return l.config.receivePolicy(f, r.resolver, r.options.Now)
}

// serverTLS hands out the certificate of the day; nil where the relay has
// started without one.
func (r *Relay) serverTLS(l *live) func() *tls.Config {
	if l.tls == nil {
		return nil
	}
	return func() *tls.Config { return r.live.Load().tls }
}

// hide makes a report on its way home name the alias instead of the target.
func (r *Relay) hide(_ context.Context, m envelope.Message, route envelope.Route, body envelope.Body) (envelope.Body, error) {
	l := r.live.Load()
	if !l.config.Bounce.HideTarget {
		return body, nil
	}
	return r.hider(l).Hide(body, route.Target, m.ID)
}

// Addr is the address of the first SMTP port, nil where there is none.
func (r *Relay) Addr() net.Addr {
	if len(r.smtp) == 0 {
		return nil
	}
	return r.smtp[0].Addr()
}

// Run serves until ctx ends, then drains: idle sessions are told to go, messages
// that are coming in are taken, attempts get their time, and the store closes.
func (r *Relay) Run(ctx context.Context) error {
	ctx, end := context.WithCancel(ctx) // also when a part fails
	defer end()
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var running sync.WaitGroup
	failed := make(chan error, 8)
	start := func(serve func() error) {
		running.Go(func() {
			if err := serve(); err != nil {
				failed <- err
			}
		})
	}
	start(func() error { return r.deliver.Run(work) })
	start(func() error { return r.watch(work) })
	start(func() error { return r.control.Serve(r.socket) })
	if len(r.doors) > 0 {
		start(func() error { return r.serveDoors(ctx) })
	}
	for _, ln := range r.smtp {
		start(func() error { return r.receive.Serve(ln) })
	}
	for _, ln := range r.smtpTLS {
		start(func() error { return r.receive.ServeTLS(ln) })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		r.log.Error("a part of srsd has failed", "error", err)
		end()
	}
	if r.receive != nil {
		drain, cancel := context.WithTimeout(work, grace)
		err = errors.Join(err, r.receive.Shutdown(drain))
		cancel()
	}
	stop()
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err = errors.Join(err, r.control.Shutdown(ending))
	running.Wait()
	r.suspend.Close()
	return errors.Join(err, r.store.Close())
}
