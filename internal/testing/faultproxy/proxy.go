// Package faultproxy stands between a client and Redis servers and breaks what it
// is told to: it cuts connections before a request, in the middle of one, or
// after the server has executed it; it delays, loses or holds requests; it parts
// client and servers, as a network does, and lets what was on its way arrive later.
//
// It understands no command. It knows where requests and answers begin and end,
// and which answer belongs to which request. On a connection on which the server
// speaks unasked in RESP2 (a subscription) that is not so, and only what befalls a
// whole connection can be used there.
package faultproxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"testing"
	"time"
)

// Options say how a proxy connects.
type Options struct {
	// Front makes it speak TLS with its clients, Back with the servers. Without
	// them TLS can't pass: the proxy reads what it forwards.
	Front, Back *tls.Config
	// Raw forwards bytes as they come: for what is neither requests nor answers, such
	// as replication, and TLS. Then nothing is counted, and there are no plans.
	Raw bool
}

// A Proxy is the way to one server. Its methods may be called concurrently.
type Proxy struct {
	*wires
	listener net.Listener
	target   string
	opts     Options
}

// New makes a proxy for the server at target, host:port. Nil options are the zero
// Options.
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

// Start is [New] for a test; the proxy ends with it.
func Start(t testing.TB, target string, o *Options) *Proxy {
	t.Helper()
	p, err := New(target, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// Addr is where the proxy listens, host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close cuts all connections and waits until nothing of the proxy runs.
func (p *Proxy) Close() {
	_ = p.listener.Close() // the one error is that it is closed
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
		// Who parts the two must see connections hang that are new, so that the
		// server is dialled when there is something to send.
		p.connect(c, nil, func() (net.Conn, error) { return dial(p.life, "tcp", p.target, p.opts.Back) })
	}
}

const dialTimeout = 10 * time.Second

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
