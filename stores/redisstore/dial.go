package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// A dialer makes connections, within timeout.
type dialer struct {
	timeout   time.Duration
	tls       *tls.Config // nil for none
	system    func(ctx context.Context, network, addr string) (net.Conn, error)
	sentinels *sentinels // say where to, if they are not nil
	line      *line      // keeps the connection, if it is not nil
	host      string     // of a Cluster's node that is named by its port only
}

func newDialer(o Options, config *tls.Config) *dialer {
	d := &dialer{timeout: o.ConnectTimeout, tls: config, system: o.dial}
	if d.system == nil {
		d.system = (&net.Dialer{}).DialContext
	}
	return d
}

// dial connects, for go-redis. It gives it a connection even where there is none,
// one on which all fails with what went wrong: go-redis would write each failed
// dial to standard error, with a logger that belongs to the whole process, and
// after PoolSize of them would not look for the server again for a second.
func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout) // the handshake is under it as well
	defer cancel()
	c, err := d.connect(ctx, network, addr)
	if err != nil {
		return failedConn{dialError{notConnected{err}}}, nil
	}
	return c, nil
}

func (d *dialer) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	if d.sentinels != nil {
		var err error
		if addr, err = d.sentinels.master(ctx); err != nil {
			return nil, err
		}
	}
	if strings.HasPrefix(addr, ":") && network != "unix" {
		addr = d.host + addr
	}
	raw, err := d.system(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: raw}
	if d.line != nil {
		d.line.conn.Store(c)
	}
	if d.sentinels != nil && !d.sentinels.keep(c, addr) {
		return nil, errors.Join(errDemoted, c.Close())
	}
	if d.tls == nil {
		return c, nil
	}
	config := d.tls
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName, _, _ = net.SplitHostPort(addr) // it has been dialed
	}
	t := tls.Client(c, config)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("TLS with %s: %w", addr, err), ignoreClosed(c.Close()))
	}
	return t, nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// A notConnected is the error of a failed dial: nothing was sent.
type notConnected struct{ err error }

func (e notConnected) Error() string { return e.err.Error() }
func (e notConnected) Unwrap() error { return e.err }

// A dialError is one layer around err: go-redis takes one off what fails while a
// connection is made ready.
type dialError struct{ err error }

func (e dialError) Error() string { return e.err.Error() }
func (e dialError) Unwrap() error { return e.err }

// A failedConn stands for a connection that could not be made.
type failedConn struct{ err error }

func (u failedConn) Read([]byte) (int, error)         { return 0, u.err }
func (u failedConn) Write([]byte) (int, error)        { return 0, u.err }
func (u failedConn) Close() error                     { return nil }
func (u failedConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (u failedConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (u failedConn) SetDeadline(time.Time) error      { return nil }
func (u failedConn) SetReadDeadline(time.Time) error  { return nil }
func (u failedConn) SetWriteDeadline(time.Time) error { return nil }
