// Package control is the way into a running relay from the command line: a
// socket in its data directory that only its owner can open, and on it one
// request and one stream of answers a connection.
//
// A request is an HTTP POST of one JSON value to the path of a verb. The answer
// is a JSON value a line; the last line is {"end":true} or {"error":"…"}, so
// that a stream that was cut off is told from one that is whole.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// ErrNotRunning says that nobody listens in a data directory.
var ErrNotRunning = errors.New("srsd is not running")

// A Verb does what one request asks, and calls say for each value of the
// answer. Its error is what the client gets.
type Verb func(ctx context.Context, args json.RawMessage, say func(any) error) error

const socketName = "control.sock"

// maxPath is how long the path of a socket may be: sun_path of unix(7), less
// its NUL.
const maxPath = 107

// within calls fn with a path of the socket that the kernel accepts, however
// long the path of the data directory is.
func within(dataDir string, fn func(path string) error) error {
	path := filepath.Join(dataDir, socketName)
	if len(path) <= maxPath {
		return fn(path)
	}
	dir, err := os.Open(dataDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return fn(filepath.Join("/proc/self/fd", strconv.Itoa(int(dir.Fd())), socketName))
}

// Listen makes the socket of a data directory, in place of one that a dead
// process has left. Closing the listener removes it. The caller must hold the
// directory, as store.Open does.
func Listen(dataDir string) (net.Listener, error) {
	var l *net.UnixListener
	err := within(dataDir, func(path string) error {
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			return errors.New("another process listens there")
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		var err error
		if l, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}); err != nil {
			return err
		}
		l.SetUnlinkOnClose(false) // path may mean something else by then
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		if l != nil {
			l.Close()
		}
		return nil, fmt.Errorf("control: socket in %s: %w", dataDir, err)
	}
	return listener{l, filepath.Join(dataDir, socketName)}, nil
}

// listener removes its socket when it is closed.
type listener struct {
	net.Listener
	path string
}

func (l listener) Close() error {
	err := l.Listener.Close()
	if err == nil {
		os.Remove(l.path)
	}
	return err
}

// dial connects to the relay of a data directory.
func dial(ctx context.Context, dataDir string) (c net.Conn, err error) {
	err = within(dataDir, func(path string) error {
		var d net.Dialer
		c, err = d.DialContext(ctx, "unix", path)
		return err
	})
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%w on data_dir %s", ErrNotRunning, dataDir)
	}
	if err != nil {
		return nil, fmt.Errorf("control: %s: %w", dataDir, err)
	}
	return c, nil
}
