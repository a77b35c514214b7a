// Package srs holds srsd's rewriting beside Mail::SRS, the reference in Perl:
//
//	go test -bench . -count 5 ./srs
//
// Every line is one core. Mail::SRS is asked from inside one Perl process, so
// that nothing but its own work is counted.
package srs

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"srsd/srs"
)

const (
	secret = "bench-secret-0123456789"
	sender = "sender1@remote.example"
	hopped = "SRS0=abcd=TT=remote.example=sender1@hop.example"
)

func rewriter(f srs.Format) *srs.Rewriter {
	return &srs.Rewriter{Domain: "fwd.example", Format: f, Keys: srs.Keys{srs.NewKey("k1", []byte(secret))}}
}

func BenchmarkForward(b *testing.B) {
	for _, f := range []srs.Format{srs.FormatSRSD, srs.FormatClassic} {
		for _, x := range []struct{ kind, in string }{{"SRS0", sender}, {"SRS1", hopped}} {
			b.Run(f.String()+"/"+x.kind, func(b *testing.B) {
				r, in := rewriter(f), x.in
				if f == srs.FormatSRSD && x.kind == "SRS1" {
					in = fresh(b)
				}
				measure(b, func() error {
					_, err := r.Forward(in)
					return err
				})
			})
		}
	}
	b.Run("Mail::SRS/SRS0", func(b *testing.B) { mailSRS(b, "forward", sender) })
	b.Run("Mail::SRS/SRS1", func(b *testing.B) { mailSRS(b, "forward", hopped) })
}

func BenchmarkReverse(b *testing.B) {
	for _, f := range []srs.Format{srs.FormatSRSD, srs.FormatClassic} {
		for _, x := range []struct{ kind, in string }{{"SRS0", sender}, {"SRS1", fresh(b)}} {
			b.Run(f.String()+"/"+x.kind, func(b *testing.B) {
				r := rewriter(f)
				in, err := r.Forward(x.in)
				if err != nil {
					b.Fatal(err)
				}
				measure(b, func() error {
					_, err := r.Reverse(in)
					return err
				})
			})
		}
	}
	for _, x := range []struct{ kind, in string }{{"SRS0", sender}, {"SRS1", hopped}} {
		in, err := rewriter(srs.FormatClassic).Forward(x.in)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("Mail::SRS/"+x.kind, func(b *testing.B) { mailSRS(b, "reverse", in) })
	}
}

// fresh is an SRS0 address of another forwarder, written today.
func fresh(b *testing.B) string {
	r := rewriter(srs.FormatClassic)
	r.Domain = "hop.example"
	out, err := r.Forward(sender)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

func measure(b *testing.B, op func() error) {
	b.ReportAllocs()
	for b.Loop() {
		if err := op(); err != nil {
			b.Fatal(err)
		}
	}
	perSecond(b)
}

func perSecond(b *testing.B) {
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
}

const script = `
use Mail::SRS; use Time::HiRes 'time';
my ($op, $address, $secret, $n) = @ARGV;
my $srs = Mail::SRS->new(Secret => $secret, MaxAge => 21, HashLength => 4);
my $start = time;
if ($op eq 'forward') { $srs->forward($address, 'fwd.example') for 1 .. $n } else { $srs->reverse($address) for 1 .. $n }
print time - $start;`

// mailSRS runs for as long as Perl needs, and reports by Perl's own clock.
func mailSRS(b *testing.B, op, address string) {
	const hint = "needs Mail::SRS: apt-get install libmail-srs-perl"
	if exec.Command("perl", "-MMail::SRS", "-e1").Run() != nil {
		if os.Getenv("SRSD_REQUIRE_PROGRAMS") != "" {
			b.Fatal(hint)
		}
		b.Skip(hint)
	}
	out, err := exec.Command("perl", "-e", script, op, address, secret, strconv.Itoa(b.N)).Output()
	if err != nil {
		b.Fatal(err)
	}
	seconds, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(seconds*1e9/float64(b.N), "ns/op")
	b.ReportMetric(float64(b.N)/seconds, "op/s")
}
