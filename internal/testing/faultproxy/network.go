package faultproxy

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
)

// A Network is one client's path to any number of servers, for a client that
// accepts a dialer. Its methods are safe for concurrent use.
type Network struct {
	*wires // the methods that a Network and a Proxy share
	opts   Options
	// Address, if not nil, translates the address by which the client knows a
	// server into the real one. It is set before the first Dial.
	Address func(addr string) string
}

// NewNetwork returns a Network. Nil options mean the zero Options.
func NewNetwork(o *Options) *Network {
	n := &Network{wires: newWires()}
	if o != nil {
		n.opts, n.raw = *o, o.Raw
	}
	return n
}

// StartNetwork is [NewNetwork] for a test, and closes the network at its end.
func StartNetwork(t testing.TB, o *Options) *Network {
	t.Helper()
	n := NewNetwork(o)
	t.Cleanup(n.Close)
	return n
}

// Dial connects to a server. During a partition it waits for the end of that,
// or until ctx is done.
func (n *Network) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if err := n.wait(ctx); err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	if n.Address != nil {
		addr = n.Address(addr)
	}
	server, err := dial(ctx, network, addr, n.opts.Back)
	if err != nil {
		return nil, err
	}
	client, end, err := pair()
	if err != nil {
		_ = server.Close() // nothing was sent
		return nil, err
	}
	if n.opts.Front != nil {
		end = tls.Server(end, n.opts.Front)
	}
	n.connect(end, server, nil)
	return client, nil
}

// Close cuts all connections and waits until all of the network's goroutines
// have ended.
func (n *Network) Close() { n.close() }

// pair returns the two ends of a connection, with a kernel's buffers in
// between.
func pair() (client, end net.Conn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	for {
		if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
			return nil, nil, err
		}
		if end, err = l.Accept(); err != nil {
			_ = client.Close()
			return nil, nil, err
		}
		if end.RemoteAddr().String() == client.LocalAddr().String() {
			return client, end, nil
		}
		_, _ = client.Close(), end.Close() // another client was faster
	}
}
