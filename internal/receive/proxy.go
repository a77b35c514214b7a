package receive

import (
	"net"
	"time"

	"github.com/pires/go-proxyproto"
)

// proxyTimeout is how long a proxy may take to say whom it speaks for.
const proxyTimeout = 5 * time.Second

// acceptProxied reads the PROXY header, version 1 or 2, of a connection from a
// network that must send one, and goes on with the client that it names. The
// header is required: a proxy that forgets it would speak for itself.
func (s *Server) acceptProxied(c net.Conn, implicit bool) {
	defer func() {
		if r := recover(); r != nil {
			s.panicked(addressOf(c.RemoteAddr()), r)
			c.Close()
		}
	}()
	p := proxyproto.NewConn(c, proxyproto.WithPolicy(proxyproto.REQUIRE), proxyproto.SetReadHeaderTimeout(proxyTimeout))
	h := p.ProxyHeader()
	if h == nil {
		s.calm.Info("no PROXY header", "client", addressOf(c.RemoteAddr()))
		c.Close()
		return
	}
	ip := addressOf(p.RemoteAddr())
	if !ip.IsValid() {
		s.calm.Info("PROXY header without an address", "client", addressOf(c.RemoteAddr()))
		c.Close()
		return
	}
	s.admit(p, ip, implicit)
}
