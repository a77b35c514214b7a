package relay

import (
	"context"
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
		r.log.Error("reload failed, the old configuration stays", "err", err)
		return err
	}
	for _, key := range c.restarts(old.config) {
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
		r.log.Error("reload failed, the old files stay in force", "err", err)
		return err
	}
	out, err := c.deliverPolicy(ownAddresses(r.ports.open))
	if err != nil {
		r.log.Error("reload failed, the old configuration stays", "err", err)
		return err
	}
	l.keepSenders(r.store)
	r.live.Store(l)
	r.deliver.SetPolicy(out)
	r.postfix.SetSettings(r.doorSettings(l))
	if r.receive != nil {
		r.receive.SetPolicy(r.receivePolicy(l))
	}
	r.log.Info("reloaded", "aliases", l.table.Len(), "keys", len(l.keys()))
	return nil
}

func (l *live) keys() srs.Keys {
	for _, rw := range l.rewriters {
		return rw.Keys
	}
	return nil
}

// restarts are the keys that differ and cannot change while srsd runs.
func (c *Config) restarts(old Config) (keys []string) {
	differ := func(key string, same bool) {
		if !same {
			keys = append(keys, key)
		}
	}
	differ("hostname", c.Hostname == old.Hostname)
	differ("data_dir", c.DataDir == old.DataDir)
	differ("user", c.User == old.User)
	differ("receive.listen", slices.Equal(c.Receive.Listen, old.Receive.Listen))
	differ("receive.listen_tls", slices.Equal(c.Receive.ListenTLS, old.Receive.ListenTLS))
	differ("receive.memory", c.Receive.Memory == old.Receive.Memory)
	differ("tls.certificate", (c.TLS.Certificate == "") == (old.TLS.Certificate == ""))
	differ("dns", slices.Equal(c.DNS.Servers, old.DNS.Servers) && c.DNS.Timeout == old.DNS.Timeout)
	differ("postfix", slices.Equal(c.doors(), old.doors()))
	differ("log", c.Log == old.Log)
	return keys
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
	l, err := (&Relay{}).load(c)
	if err != nil {
		return Summary{}, err
	}
	if _, err := c.deliverPolicy(nil); err != nil {
		return Summary{}, err
	}
	s := Summary{Aliases: l.table.Len(), Keys: len(l.keys())}
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
			r.log.Warn("files are not watched, send SIGHUP after a change", "err", err)
			<-ctx.Done()
		}
	}
	return nil
}
