package receive

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"srsd/envelope"
)

func TestNetworksThatCountTogether(t *testing.T) {
	for ip, want := range map[string]string{"192.0.2.77": "192.0.2.0/24", "2001:db8:1:2:3::4": "2001:db8:1:2::/64"} {
		if got := networkOf(netip.MustParseAddr(ip)); got.String() != want {
			t.Errorf("%s: %s", ip, got)
		}
	}
	for in, want := range map[string]string{"[::ffff:192.0.2.1]:25": "192.0.2.1", "192.0.2.1:25": "192.0.2.1", "[2001:db8::1]:25": "2001:db8::1"} {
		a, err := net.ResolveTCPAddr("tcp", in)
		if err != nil {
			t.Fatal(err)
		}
		if got := addressOf(a); got.String() != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}

func TestReversed(t *testing.T) {
	for ip, want := range map[string]string{
		"192.0.2.99":                "99.2.0.192",
		"2001:db8:1:2:3:4:567:89ab": "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2", // RFC 5782, section 2.4
		"::ffff:0.0.0.1":            "1.0.0.0.0.0.0.0.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0",
	} {
		if got := reversed(netip.MustParseAddr(ip)); got != want {
			t.Errorf("%s: %s", ip, got)
		}
	}
}

// A panic below go-smtp ends one connection, not the process, and frees its
// place.
func TestAPanicInAConnectionIsContained(t *testing.T) {
	s := New(Config{Policy: Policy{Hostname: "mx.alumni.example"}})
	ours, theirs := net.Pipe()
	defer theirs.Close()
	go s.admit(panicky{ours}, netip.MustParseAddr("192.0.2.1"), false)
	theirs.SetReadDeadline(time.Now().Add(5 * time.Second))
	for {
		if _, err := theirs.Read(make([]byte, 100)); err != nil {
			break
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

type panicky struct{ net.Conn }

func (panicky) Read([]byte) (int, error) { panic("a bug") }

// Who has come less far goes first; among equals the idle, then the crowded.
func TestWhoGoesFirst(t *testing.T) {
	r := newRegistry()
	now := time.Now()
	at := func(ip string, p phase, idle time.Duration) *conn {
		c := &conn{ip: netip.MustParseAddr(ip), network: networkOf(netip.MustParseAddr(ip)), place: -1}
		c.setPhase(p)
		c.progress.Store(now.Add(-idle).UnixNano())
		return c
	}
	r.networks[networkOf(netip.MustParseAddr("192.0.2.1"))] = 40
	order := []*conn{
		at("192.0.2.1", greeting, 5*time.Second), at("198.51.100.1", greeting, time.Hour), at("198.51.100.1", greeting, time.Minute),
		at("192.0.2.1", greeting, time.Millisecond), at("198.51.100.1", greeting, time.Millisecond),
		at("192.0.2.1", addressing, time.Hour), at("192.0.2.1", sending, time.Hour),
	}
	for i := range order {
		for j := range i {
			if !r.goesBefore(order[j], order[i], now) || r.goesBefore(order[i], order[j], now) {
				t.Errorf("%d does not go before %d", j, i)
			}
		}
	}
}

func TestAMessageUnderWayIsNeverShed(t *testing.T) {
	r := newRegistry()
	one := limits{1, 9, 9}
	c, err := r.add(netip.MustParseAddr("192.0.2.1"), one, func() *conn { return &conn{} })
	if err != nil {
		t.Fatal(err)
	}
	c.setPhase(delivering)
	if _, err := r.add(netip.MustParseAddr("192.0.2.2"), one, func() *conn { return &conn{} }); err != errBusy {
		t.Error(err)
	}
	r.remove(c)
	r.remove(c)
	if len(r.clients)+len(r.addresses)+len(r.networks) != 0 {
		t.Errorf("%+v", r)
	}
}

// Cutting off and delivering exclude one another.
func TestWhoIsCutOffHandsOverNothing(t *testing.T) {
	for range 200 {
		ours, theirs := net.Pipe()
		c := &conn{raw: ours}
		c.setPhase(sending)
		done := make(chan bool)
		go func() { done <- c.setPhase(delivering) }()
		c.cut(delivering)
		delivers := <-done
		if cut := c.getPhase() == gone; cut == delivers {
			t.Fatalf("cut off: %v, delivers: %v", cut, delivers)
		}
		ours.Close()
		theirs.Close()
	}
}

func TestTheLogStaysCalm(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(calm{slog.NewTextHandler(&b, nil), &flow{}})
	for range 100 {
		log.With("a", 1).WithGroup("g").Info("hello")
	}
	if n := strings.Count(b.String(), "\n"); n != calmLines {
		t.Errorf("%d lines", n)
	}
	f := flow{}
	now := time.Now()
	for range 25 {
		f.pass(now)
	}
	if n, ok := f.pass(now.Add(time.Second)); n != 15 || !ok {
		t.Errorf("%d left out, %v", n, ok)
	}
	if n, ok := f.pass(now.Add(time.Second)); n != 0 || !ok {
		t.Errorf("then %d left out, %v", n, ok)
	}
}

func TestForgeriesAreCountedByClient(t *testing.T) {
	var f forgeries
	now := time.Now()
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	for range forgeriesAllowed / 2 {
		if f.add(a, now) || f.add(b, now) {
			t.Fatal("too early")
		}
	}
	if !f.add(b, now) {
		t.Error("one network is not one client")
	}
	if f.add(netip.MustParseAddr("192.0.2.1"), now) || f.add(a, now.Add(time.Hour)) {
		t.Error("others, or later, count too")
	}
}

func TestErrorsBecomeReplies(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{errTooBig, "552 5.3.4"}, {errHeaderTooBig, "552 5.3.4"}, {errNoMemory, "452 4.3.1"}, {replyLoop, "554 5.4.6"},
		{envelope.NewReply(550, envelope.EnhancedCode{5, 6, 11}, "bare"), "550 5.6.11"}, {net.ErrClosed, "451 4.4.2"},
	} {
		if got := replyFor(c.err).String(); !strings.HasPrefix(got, c.want) {
			t.Errorf("%v: %s", c.err, got)
		}
	}
}
