package spf_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"srsd/spf"
)

// A fake is a resolver that knows its answers: lines of name, type and data, with
// names in presentation form. "name SERVFAIL" makes every question about a name
// fail, "name SERVFAIL AAAA" those of one type.
type fake struct {
	txt, ptr map[string][]string
	addr     map[string][]netip.Addr // by "A name" and "AAAA name"
	mx       map[string][]spf.MX
	fail     map[string]bool
	names    map[string]bool
	asked    []string
	ttl      map[string]time.Duration // by name; 1 h if not there
}

func newFake(zone string) *fake {
	f := &fake{txt: map[string][]string{}, ptr: map[string][]string{}, addr: map[string][]netip.Addr{},
		mx: map[string][]spf.MX{}, fail: map[string]bool{}, names: map[string]bool{}, ttl: map[string]time.Duration{}}
	for line := range strings.Lines(zone) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		name, rest, _ := strings.Cut(line, " ")
		kind, data, _ := strings.Cut(rest, " ")
		f.names[name] = true
		switch kind {
		case "TXT":
			f.txt[name] = append(f.txt[name], data)
		case "A", "AAAA":
			f.addr[kind+" "+name] = append(f.addr[kind+" "+name], netip.MustParseAddr(data))
		case "MX":
			f.mx[name] = append(f.mx[name], spf.MX{Host: data, Pref: 10})
		case "PTR":
			f.ptr[name] = append(f.ptr[name], data)
		case "SERVFAIL":
			f.fail[strings.TrimSpace(data+" "+name)] = true
		default:
			panic(line)
		}
	}
	return f
}

// ask takes note of a question and says what is known about the name.
func (f *fake) ask(ctx context.Context, kind, name string) (string, spf.Meta, error) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	f.asked = append(f.asked, kind+" "+name)
	if err := ctx.Err(); err != nil {
		return name, spf.Meta{}, err
	}
	if f.fail[name] || f.fail[kind+" "+name] {
		return name, spf.Meta{}, fmt.Errorf("%s %s: %w", kind, name, errors.New("SERVFAIL"))
	}
	ttl, ok := f.ttl[name]
	if !ok {
		ttl = time.Hour
	}
	return name, spf.Meta{TTL: ttl, NXDomain: !f.names[name]}, nil
}

func (f *fake) TXT(ctx context.Context, name string) ([]string, spf.Meta, error) {
	name, meta, err := f.ask(ctx, "TXT", name)
	if err != nil {
		return nil, meta, err
	}
	return f.txt[name], meta, nil
}

func (f *fake) Addr(ctx context.Context, name string, v6 bool) ([]netip.Addr, spf.Meta, error) {
	kind := "A"
	if v6 {
		kind = "AAAA"
	}
	name, meta, err := f.ask(ctx, kind, name)
	if err != nil {
		return nil, meta, err
	}
	return f.addr[kind+" "+name], meta, nil
}

func (f *fake) MX(ctx context.Context, name string) ([]spf.MX, spf.Meta, error) {
	name, meta, err := f.ask(ctx, "MX", name)
	if err != nil {
		return nil, meta, err
	}
	return f.mx[name], meta, nil
}

func (f *fake) PTR(ctx context.Context, ip netip.Addr) ([]string, spf.Meta, error) {
	name, meta, err := f.ask(ctx, "PTR", ip.String())
	if err != nil {
		return nil, meta, err
	}
	return f.ptr[name], meta, nil
}
