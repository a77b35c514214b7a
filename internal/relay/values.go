package relay

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// A Duration is a span of time in the configuration: Go's notation, with "d"
// for days in front ("21d", "1d12h", "20s", "100ms").
type Duration time.Duration

// UnmarshalText reads a duration; negative ones are an error.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := parseDuration(string(text))
	*d = Duration(v)
	return err
}

// String is the duration in Go's notation.
func (d Duration) String() string { return time.Duration(d).String() }

func parseDuration(s string) (time.Duration, error) {
	rest, total := s, time.Duration(0)
	if days, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("%q is no duration; write 20s, 5m, 12h or 21d", s)
		}
		rest, total = after, time.Duration(n)*24*time.Hour
	}
	if rest != "" {
		v, err := time.ParseDuration(rest)
		if err != nil {
			return 0, fmt.Errorf("%q is no duration; write 20s, 5m, 12h or 21d", s)
		}
		if v < 0 {
			return 0, fmt.Errorf("%q is negative", s)
		}
		total += v
	} else if s == "" {
		return 0, fmt.Errorf(`"" is no duration; write 20s, 5m, 12h or 21d`)
	}
	return total, nil
}

// A Size is a number of octets in the configuration: a number with B, KB, MB or
// GB behind it, in powers of 1024 ("50MB", "256KB").
type Size int64

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(text []byte) error {
	v, err := parseSize(string(text))
	*s = Size(v)
	return err
}

func parseSize(s string) (int64, error) {
	units := []struct {
		name  string
		shift uint
	}{{"GB", 30}, {"MB", 20}, {"KB", 10}, {"B", 0}, {"", 0}}
	for _, u := range units {
		number, ok := strings.CutSuffix(strings.ToUpper(strings.TrimSpace(s)), u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || n < 0 || n > 1<<40>>u.shift {
			break
		}
		return n << u.shift, nil
	}
	return 0, fmt.Errorf("%q is no size; write 256KB, 50MB or 1GB", s)
}

// A Network is an address or a prefix in the configuration.
type Network netip.Prefix

// UnmarshalText reads "192.0.2.0/24", "2001:db8::/32" or a single address.
func (n *Network) UnmarshalText(text []byte) error {
	s := string(text)
	if ip, err := netip.ParseAddr(s); err == nil && ip.Zone() == "" {
		*n = Network(netip.PrefixFrom(ip, ip.BitLen()))
		return nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return fmt.Errorf("%q is no network; write 192.0.2.0/24 or 2001:db8::/32", s)
	}
	*n = Network(p.Masked())
	return nil
}

func prefixes(networks []Network) []netip.Prefix {
	out := make([]netip.Prefix, len(networks))
	for i, n := range networks {
		out[i] = netip.Prefix(n)
	}
	return out
}
