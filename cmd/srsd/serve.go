package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"srsd/internal/relay"
)

type serveCmd struct {
	Config string `short:"c" placeholder:"FILE" help:"Configuration; default srsd.toml, then /etc/srsd/srsd.toml."`
}

// Run is the relay's life: start, reload at SIGHUP, drain at SIGTERM or SIGINT,
// and end at once at the second of these.
func (s serveCmd) Run(c console) error {
	path, err := relay.FindConfig(s.Config)
	if err != nil {
		return err
	}
	config, err := relay.LoadConfig(path)
	if err != nil {
		return err
	}
	// From before the ports open: whoever sees srsd listening may signal it.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)

	syscall.Umask(0o077) // badger makes its files as open as it may
	out := relay.NewLogWriter(c.Err)
	defer out.Close()
	log := config.NewLogger(out)
	r, err := relay.New(config, relay.Options{Logger: log})
	if err != nil {
		return err
	}
	ctx, drain := context.WithCancel(context.Background())
	defer drain()
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	log.Info("ready", "config", path)
	notify(daemon.SdNotifyReady)
	for {
		select {
		case err := <-ended:
			return err
		case sig := <-signals:
			switch {
			case sig == syscall.SIGHUP:
				notify(reloading())
				r.Reload() // says itself how it went
				notify(daemon.SdNotifyReady)
			case ctx.Err() == nil:
				log.Info("draining", "signal", sig.String())
				notify(daemon.SdNotifyStopping)
				drain()
			default:
				log.Warn("ending at once", "signal", sig.String())
				return exitStatus(exitFailed)
			}
		}
	}
}

// reloading is what Type=notify-reload wants to hear: with the time by the clock
// that systemd has sent SIGHUP by.
func reloading() string {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // Linux has it
	return fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000)
}

// notify tells systemd, where there is one.
func notify(state string) { _, _ = daemon.SdNotify(false, state) }
