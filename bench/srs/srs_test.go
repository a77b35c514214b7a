// Package srs holds srsd's rewriting beside Mail::SRS, the reference in Perl:
//
//	go test -cpu 1 -bench . -count 5 -benchtime 300ms ./srs
//
// The figures are per second of processor time, so that a busy machine does not
// spoil them. Mail::SRS is called inside one Perl process, so that nothing but
// its own work is counted.
package srs

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

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
	start := processorTime()
	for b.Loop() {
		if err := op(); err != nil {
			b.Fatal(err)
		}
	}
	report(b, b.N, processorTime()-start)
}

// processorTime is what this process has used, its garbage collector included.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func report(b *testing.B, n int, used time.Duration) {
	b.ReportMetric(float64(used.Nanoseconds())/float64(n), "ns/op")
	b.ReportMetric(float64(n)/used.Seconds(), "op/s")
}

const script = `
use Mail::SRS;
my ($op, $address, $secret, $n) = @ARGV;
my $srs = Mail::SRS->new(Secret => $secret, MaxAge => 21, HashLength => 4);
my ($user, $system) = times;
if ($op eq 'forward') { $srs->forward($address, 'fwd.example') for 1 .. $n } else { $srs->reverse($address) for 1 .. $n }
my ($user2, $system2) = times;
print $user2 - $user + $system2 - $system;`

// mailSRS reports what Perl used, the loop alone.
func mailSRS(b *testing.B, op, address string) {
	const hint = "needs Mail::SRS: apt-get install libmail-srs-perl"
	if exec.Command("perl", "-MMail::SRS", "-e1").Run() != nil {
		if os.Getenv("SRSD_REQUIRE_PROGRAMS") != "" {
			b.Fatal(hint)
		}
		b.Skip(hint)
	}
	const rounds = 20_000
	used := 0.0
	for b.Loop() {
		out, err := exec.Command("perl", "-e", script, op, address, secret, strconv.Itoa(rounds)).Output()
		if err != nil {
			b.Fatal(err)
		}
		seconds, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
		if err != nil {
			b.Fatal(err)
		}
		used += seconds
	}
	report(b, b.N*rounds, time.Duration(used*float64(time.Second)))
}
