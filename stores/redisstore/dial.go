package redisstore

import (
	"context"
	"crypto/tls"
	"net"
	"time"
)

// dialer connects, within timeout, with TLS if config is not nil.
//
// It gives go-redis a connection even where there is none, one on which all
// fails with what went wrong: go-redis would write each failed dial to standard
// error, with a logger that belongs to the whole process, and after PoolSize of
// them would not look for the server again for a second.
func dialer(config *tls.Config, timeout time.Duration) func(context.Context, string, string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: timeout}
	dial := plain.DialContext
	if config != nil {
		dial = (&tls.Dialer{NetDialer: plain, Config: config}).DialContext
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout) // the handshake is under it as well
		defer cancel()
		c, err := dial(ctx, network, addr)
		if err != nil {
			return undialed{dialError{err}}, nil
		}
		return c, nil
	}
}

// A dialError is one layer around err: go-redis takes one off what fails while a
// connection is made ready.
type dialError struct{ err error }

func (e dialError) Error() string { return e.err.Error() }
func (e dialError) Unwrap() error { return e.err }

// An undialed is the connection that could not be made.
type undialed struct{ err error }

func (u undialed) Read([]byte) (int, error)         { return 0, u.err }
func (u undialed) Write([]byte) (int, error)        { return 0, u.err }
func (u undialed) Close() error                     { return nil }
func (u undialed) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (u undialed) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (u undialed) SetDeadline(time.Time) error      { return nil }
func (u undialed) SetReadDeadline(time.Time) error  { return nil }
func (u undialed) SetWriteDeadline(time.Time) error { return nil }
