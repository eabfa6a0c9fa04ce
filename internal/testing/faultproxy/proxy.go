// Package faultproxy is a proxy between a client and servers, of Redis or (raw) of
// any protocol, that injects faults: it cuts connections before a request, in the
// middle of one, or after the server has executed it; it delays, loses or holds
// requests; it partitions client and servers like a network, and delivers what was in
// transit later.
//
// It interprets no command. It knows where requests and answers begin and end,
// and which answer belongs to which request. This is not possible on a
// connection on which the server sends unrequested messages in RESP2 (a
// subscription): there, only faults of the whole connection can be used.
package faultproxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"testing"
	"time"
)

// Options configure how a proxy connects.
type Options struct {
	// Front is for TLS with clients, Back for TLS with servers. Without them
	// TLS can't pass, because the proxy reads what it forwards.
	Front, Back *tls.Config
	// Raw forwards bytes without parsing, for protocols other than requests and
	// answers, such as replication, and for TLS. Then nothing is counted, and
	// there are no plans.
	Raw bool
}

// A Proxy is the path to one server. Its methods are safe for concurrent use.
type Proxy struct {
	*wires   // the methods that a Network and a Proxy share
	listener net.Listener
	target   string
	opts     Options
}

// New returns a proxy for the server at target, host:port. Nil options mean the
// zero Options.
func New(target string, o *Options) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("faultproxy: %w", err)
	}
	p := &Proxy{wires: newWires(), listener: l, target: target}
	if o != nil {
		p.opts = *o
	}
	p.raw = p.opts.Raw
	p.wg.Go(p.accept)
	return p, nil
}

// Start is [New] for a test, and closes the proxy at its end.
func Start(t testing.TB, target string, o *Options) *Proxy {
	t.Helper()
	p, err := New(target, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// Addr returns the address on which the proxy listens, host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close cuts all connections and waits until all of the proxy's goroutines have
// ended.
func (p *Proxy) Close() {
	_ = p.listener.Close() // the only error is that it is closed
	p.close()
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		if p.opts.Front != nil {
			c = tls.Server(c, p.opts.Front)
		}
		// During a partition new connections must hang, too, so the server is
		// dialed only when there is something to send.
		p.connect(c, nil, func() (net.Conn, error) { return dial(p.life, "tcp", p.target, p.opts.Back) })
	}
}

const dialTimeout = 30 * time.Second

func dial(ctx context.Context, network, addr string, config *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if config != nil {
		d := tls.Dialer{Config: config}
		return d.DialContext(ctx, network, addr)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, addr)
}
