package story

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/rogpeppe/go-internal/txtar"

	"srsd/internal/mailtest"
)

// What every story has.
const (
	alumniZone = `
alumni.example     MX 10 mx.alumni.example
srs.alumni.example MX 10 mx.alumni.example
srs.alumni.example TXT v=spf1 ip4:NET.1 -all
mx.alumni.example  A NET.1
`
	defaultZone = `
target.example     MX 10 mx.target.example
mx.target.example  A NET.10
origin.example     MX 10 mx.origin.example
origin.example     TXT v=spf1 ip4:NET.9 -all
mx.origin.example  A NET.20
`
	defaultAliases = "jo@alumni.example: kim@target.example\n"
	secrets        = "srsd-keys 1\nk1 a-secret-that-only-stories-use\n"
)

// Patience with a relay that works behind its replies: how long a message may
// take, how long no other comes after the last, and how long none comes where
// nobody knows yet how many there will be.
const (
	patience  = 10 * time.Second
	quiet     = 60 * time.Millisecond
	longQuiet = 2 * time.Second
)

// A world is everything around the relay.
type world struct {
	dir   string
	net   string // "127.x.y"
	port  int    // of every mail server
	zone  string
	dns   *mailtest.DNS
	mx    map[string]*mailtest.MX // by host name; nil where it is off
	gone  []taken                 // from servers that were ended
	seen  map[taken]int           // how often each message has been told
	relay Relay
}

func newWorld(dir string, ar *txtar.Archive) (*world, error) {
	sections := map[string]string{"zone": defaultZone, "aliases": defaultAliases}
	for _, s := range ar.Files[:firstStep(ar)] {
		sections[s.Name] = string(s.Data)
	}
	w := &world{dir: dir, mx: map[string]*mailtest.MX{}, seen: map[taken]int{}}
	// Stories that run at the same time, in this process or another, are
	// unlikely to share a network; should they, the port tells them apart. Its
	// numbers have three digits, so that lines are folded where they always are.
	sum := crc32.ChecksumIEEE([]byte(dir + strconv.Itoa(os.Getpid())))
	w.net = fmt.Sprintf("127.%d.%d", 100+sum/100%100, 100+sum%100)
	w.zone = w.expand(alumniZone + sections["zone"])
	if err := w.open(sections); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *world) open(sections map[string]string) (err error) {
	if w.dns, err = mailtest.NewDNS(w.zone); err != nil {
		return err
	}
	if w.port, err = w.freePort(); err != nil {
		return err
	}
	if err := w.target(sections["target"]); err != nil {
		return err
	}
	return w.writeFiles(sections)
}

func (w *world) close() error {
	var errs []error
	for _, m := range w.mx {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	if w.dns != nil {
		errs = append(errs, w.dns.Close())
	}
	return errors.Join(errs...)
}

// expand puts the story's network into a text.
func (w *world) expand(text string) string {
	b := strings.Split(w.net, ".")
	text = strings.ReplaceAll(text, "REV", b[2]+"."+b[1]+"."+b[0])
	return strings.ReplaceAll(text, "NET.", w.net+".")
}

func (w *world) setZone(text string) error {
	w.zone = w.expand(alumniZone + text)
	if err := w.dns.SetZone(w.zone); err != nil {
		return err
	}
	return w.target("") // for new hosts
}

// hosts returns the mail servers of the zone and their addresses.
func (w *world) hosts() map[string]string {
	addrs, exchangers := map[string]string{}, map[string]bool{}
	for line := range strings.Lines(w.zone) {
		f := strings.Fields(line)
		switch {
		case len(f) == 3 && f[1] == "A" && strings.HasPrefix(f[2], w.net+".") && f[2] != w.net+".1":
			addrs[f[0]] = f[2]
		case len(f) == 4 && f[1] == "MX":
			exchangers[f[3]] = true
		}
	}
	maps.DeleteFunc(addrs, func(host, _ string) bool { return !exchangers[host] })
	return addrs
}

// freePort finds a port that is free at the address of every mail server.
func (w *world) freePort() (port int, err error) {
	for range 20 {
		l, err := net.Listen("tcp", w.net+".1:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		free := true
		for _, addr := range w.hosts() {
			l, err := net.Listen("tcp", net.JoinHostPort(addr, strconv.Itoa(port)))
			if err != nil {
				free = false
				break
			}
			l.Close()
		}
		if free {
			return port, nil
		}
	}
	return 0, errors.New("no port is free at every mail server")
}

// target does what a target section says, and starts the servers that are
// missing.
func (w *world) target(text string) error {
	scripts := map[string][]string{}
	for line := range strings.Lines(w.expand(text)) {
		host, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if host != "" && host[0] != '#' {
			scripts[host] = append(scripts[host], strings.TrimSpace(rest))
		}
	}
	hosts := w.hosts()
	for host := range scripts {
		if hosts[host] == "" {
			return fmt.Errorf("no MX record names %s, or it has no address in NET", host)
		}
	}
	for _, host := range slices.Sorted(maps.Keys(hosts)) {
		script, told := scripts[host]
		if _, running := w.mx[host]; running && !told {
			continue
		}
		if err := w.server(host, hosts[host], script); err != nil {
			return fmt.Errorf("%s: %w", host, err)
		}
	}
	return nil
}

// server starts, ends or instructs one mail server.
func (w *world) server(host, addr string, script []string) error {
	off, withTLS := slices.Contains(script, "off"), slices.Contains(script, "tls")
	script = slices.DeleteFunc(script, func(s string) bool { return s == "off" || s == "tls" })
	m := w.mx[host]
	if m != nil && (off || withTLS) {
		w.gone = append(w.gone, takenBy(host, m)...)
		m.Close()
		m = nil
	}
	if m == nil && !off {
		c := mailtest.MXConfig{Addr: net.JoinHostPort(addr, strconv.Itoa(w.port)), Hostname: host}
		if withTLS {
			cert, err := mailtest.Certificate(host)
			if err != nil {
				return err
			}
			c.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
		}
		var err error
		if m, err = mailtest.NewMX(c); err != nil {
			return err
		}
	}
	w.mx[host] = m
	if m == nil {
		return nil
	}
	return m.Script(strings.Join(script, "\n"))
}

// writeFiles writes what the relay is started with.
func (w *world) writeFiles(sections map[string]string) error {
	config := map[string]any{
		"hostname": "mx.alumni.example",
		"data_dir": "data",
		"receive":  map[string]any{"listen": []string{w.net + ".1:0"}},
		"forward": map[string]any{"domains": []string{"alumni.example"}, "aliases": []string{"aliases"},
			"postmaster": "root@target.example"},
		"srs": map[string]any{"domain": "srs.alumni.example", "secrets": "secrets"},
		"deliver": map[string]any{"port": w.port, "source": []string{w.net + ".1"}, "budget": "2s",
			"allow_networks": []string{netip.PrefixFrom(netip.MustParseAddr(w.net+".0"), 24).String()}},
		"dns": map[string]any{"servers": []string{w.dns.Addr()}, "timeout": "1s"},
	}
	var more map[string]any
	if _, err := toml.Decode(w.expand(sections["config"]), &more); err != nil {
		return err
	}
	merge(config, more)
	var text bytes.Buffer
	if err := toml.NewEncoder(&text).Encode(config); err != nil {
		return err
	}
	for name, data := range map[string]string{"srsd.toml": text.String(), "aliases": sections["aliases"], "secrets": secrets} {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(data), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// merge puts the keys of more over those of config, table by table.
func merge(config, more map[string]any) {
	for k, v := range more {
		old, isTable := config[k].(map[string]any)
		if table, ok := v.(map[string]any); ok && isTable {
			merge(old, table)
		} else {
			config[k] = v
		}
	}
}

// collect returns what the mail servers took and was not told yet, as soon as
// there are n messages and no more come; for n < 0, when none come any more.
func (w *world) collect(n int) []taken {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	calm, hush := quiet, 0
	if n < 0 {
		calm = longQuiet
	}
	for last := -1; ctx.Err() == nil && (last < n || hush < 2); {
		got := len(w.fresh())
		if hush++; got != last {
			hush = 1
		}
		last = got
		time.Sleep(calm / 2)
	}
	fresh := w.fresh()
	for _, x := range fresh {
		w.seen[x]++
	}
	return fresh
}
