package relay

import (
	"context"
	"errors"
	"net"
	"os"

	"srsd/internal/postfix"
	"srsd/spf"
)

// A door is an open listener for Postfix.
type door struct {
	net.Listener
	kind postfix.Door
}

// openDoors opens the doors of [postfix].
func (r *Relay) openDoors(c Config) error {
	for _, d := range []struct {
		kind     postfix.Door
		endpoint string
	}{
		{postfix.Sender, c.Postfix.SenderTCP}, {postfix.Recipient, c.Postfix.RecipientTCP},
		{postfix.Socketmap, c.Postfix.Socketmap}, {postfix.Milter, c.Postfix.Milter}, {postfix.Policy, c.Postfix.Policy},
	} {
		if d.endpoint == "" {
			continue
		}
		network, address, err := endpoint(d.endpoint)
		if err != nil {
			return err
		}
		ln, err := r.ports.listen("postfix."+string(d.kind), network, address)
		if err != nil {
			return err
		}
		if network == "unix" {
			// Postfix's processes run as a user of their own. Who may connect
			// is up to the folder.
			if err := os.Chmod(address, 0o666); err != nil {
				return err
			}
		}
		r.doors = append(r.doors, door{ln, d.kind})
	}
	return nil
}

// serveDoors answers Postfix until work ends, then lets go of it.
func (r *Relay) serveDoors(ctx context.Context) error {
	ended := make(chan error, len(r.doors))
	for _, d := range r.doors {
		go func() { ended <- r.postfix.Serve(d.Listener, d.kind) }()
	}
	var err error
	waiting := len(r.doors)
	select {
	case <-ctx.Done():
	case err = <-ended:
		waiting--
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err = errors.Join(err, r.postfix.Shutdown(drain))
	for range waiting {
		if e := <-ended; !errors.Is(e, postfix.ErrClosed) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// doorSettings is the reloadable part of the doors.
func (r *Relay) doorSettings(l *live) postfix.Settings {
	c := &l.config
	return postfix.Settings{
		Hostname: c.Hostname, Router: l.router, LocalDomains: c.Postfix.LocalDomains, Exclude: c.Postfix.Exclude,
		RewriteLocal: c.Postfix.RewriteLocal, MilterSPF: c.Postfix.MilterSPF,
		SPF:    &spf.Checker{Resolver: r.resolver, Receiver: c.Hostname, StrictVoid: c.SPF.StrictVoid, Now: r.options.Now},
		Sender: c.senderPolicy(),
	}
}
