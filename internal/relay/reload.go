package relay

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"srsd/forward/watch"
	"srsd/srs"
)

// Reload reads the configuration and everything that it names again. Where any
// of it is bad, all of it stays as it was, and the log says why.
func (r *Relay) Reload() error {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	old := r.live.Load()
	c, err := LoadConfig(old.config.File)
	if err != nil {
		return r.reloadFailed(err)
	}
	for _, key := range c.keep(old.config) {
		r.log.Warn("a change needs a restart", "key", key)
	}
	if err := r.adopt(c); err != nil {
		return err
	}
	if stop := r.rewatch.Load(); stop != nil {
		(*stop)()
	}
	return nil
}

// refresh reads the alias files and the secrets again, with the configuration
// as it is.
func (r *Relay) refresh() {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	_ = r.adopt(r.live.Load().config) // says itself what is wrong
}

// adopt makes a configuration the one in force.
func (r *Relay) adopt(c Config) error {
	l, err := r.load(c)
	if err != nil {
		return r.reloadFailed(err)
	}
	out, err := c.deliverPolicy(ownAddresses(r.ports.open))
	if err != nil {
		return r.reloadFailed(err)
	}
	r.warn(l)
	l.keepSenders(r.store, r.options.Now)
	r.live.Store(l)
	r.deliver.SetPolicy(out)
	r.suspend.SetPolicy(c.suspendPolicy())
	r.postfix.SetSettings(r.doorSettings(l))
	if r.receive != nil {
		r.receive.SetPolicy(r.receivePolicy(l))
	}
	r.log.Info("reloaded", "aliases", l.table.Len(), "keys", len(l.keys()))
	return nil
}

// reloadFailed counts a reload that changed nothing, and says why it did not.
func (r *Relay) reloadFailed(err error) error {
	r.failed++
	r.log.Error("reload failed, what was in force stays", "error", err, "failed", r.failed)
	return err
}

// warn logs what is odd about the alias table, and no error.
func (r *Relay) warn(l *live) {
	for _, w := range l.table.Warnings() {
		r.log.Warn("alias table", "text", w.Error())
	}
}

func (l *live) keys() srs.Keys {
	for _, rw := range l.rewriters {
		return rw.Keys
	}
	return nil
}

// keep puts back what cannot change while srsd runs, and names the keys that
// would have changed.
func (c *Config) keep(old Config) (keys []string) {
	keep := func(key string, same bool, restore func()) {
		if !same {
			keys = append(keys, key)
			restore()
		}
	}
	keep("hostname", c.Hostname == old.Hostname, func() { c.Hostname = old.Hostname })
	keep("data_dir", c.DataDir == old.DataDir, func() { c.DataDir = old.DataDir })
	keep("user", c.User == old.User, func() { c.User = old.User })
	keep("receive.listen", slices.Equal(c.Receive.Listen, old.Receive.Listen), func() { c.Receive.Listen = old.Receive.Listen })
	keep("receive.listen_tls", slices.Equal(c.Receive.ListenTLS, old.Receive.ListenTLS), func() { c.Receive.ListenTLS = old.Receive.ListenTLS })
	keep("receive.memory", c.Receive.Memory == old.Receive.Memory, func() { c.Receive.Memory = old.Receive.Memory })
	keep("tls.certificate", (c.TLS.Certificate == "") == (old.TLS.Certificate == ""), func() { c.TLS = old.TLS })
	keep("dns", slices.Equal(c.DNS.Servers, old.DNS.Servers) && c.DNS.Timeout == old.DNS.Timeout, func() { c.DNS = old.DNS })
	keep("postfix", slices.Equal(c.doors(), old.doors()), func() { c.keepDoors(old.Postfix) })
	keep("log", c.Log == old.Log, func() { c.Log = old.Log })
	return keys
}

// keepDoors puts back the endpoints, and leaves what a reload may change.
func (c *Config) keepDoors(old Postfix) {
	p := &c.Postfix
	p.SenderTCP, p.RecipientTCP, p.Socketmap, p.Milter, p.Policy =
		old.SenderTCP, old.RecipientTCP, old.Socketmap, old.Milter, old.Policy
}

// A Summary is what Check has seen.
type Summary struct {
	Aliases  int
	Keys     int
	Warnings []string
}

// Check reads everything that a relay with this configuration reads at its
// start, and says what is wrong.
func Check(c Config) (Summary, error) {
	var s Summary
	keys, err := srs.LoadKeys(c.secretsFile())
	if c.SRS.Secrets == "" && errors.Is(err, fs.ErrNotExist) {
		s.Warnings = append(s.Warnings, c.secretsFile()+" does not exist yet: the first start makes it")
		keys, err = srs.Keys{srs.NewKey("none", make([]byte, 16))}, nil // to look at the rest with
	}
	if err != nil {
		return Summary{}, err
	}
	l, err := (&Relay{}).loadWith(c, keys)
	if err != nil {
		return Summary{}, err
	}
	if _, err := c.deliverPolicy(nil); err != nil {
		return Summary{}, err
	}
	s.Aliases, s.Keys = l.table.Len(), len(keys)
	for _, w := range l.table.Warnings() {
		s.Warnings = append(s.Warnings, w.Error())
	}
	return s, nil
}

// watch reads alias files and secrets again when they change, until ctx ends.
func (r *Relay) watch(ctx context.Context) error {
	for ctx.Err() == nil {
		watching, stop := context.WithCancel(ctx)
		r.rewatch.Store(&stop) // a reload may name other files
		l := r.live.Load()
		paths := append([]string{l.config.secretsFile()}, l.config.Forward.Aliases...)
		if l.config.Forward.IncludeDir != "" {
			paths = append(paths, l.config.Forward.IncludeDir)
		}
		err := watch.Watch(watching, paths, r.refresh)
		stop()
		if err != nil {
			r.log.Warn("files are not watched, send SIGHUP after a change", "error", err)
			<-ctx.Done()
		}
	}
	return nil
}
