package redisstore

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// A pool has the connections to one server. A call on it ends when its context does:
// the connection that it uses is closed.
//
// go-redis's own pool doesn't reveal which connection a call uses, so a call that is
// cancelled would wait for its timeout. To run each call in a goroutine of its own,
// and to abandon that, more than doubles the time of a save.
type pool struct {
	options redis.Options // of a line
	dialer  *dialer
	free    chan struct{}

	mu     sync.Mutex
	idle   []*line // the last one returned is used first
	all    []*line
	closed bool
}

func newPool(o *redis.Options, d *dialer) *pool {
	p := &pool{options: *o, dialer: d, free: make(chan struct{}, o.PoolSize)}
	p.options.PoolSize, p.options.MaxActiveConns = 1, 1
	return p
}

// do calls f with a client that has one connection, which no other call uses.
func (p *pool) do(ctx context.Context, f func(context.Context, redis.UniversalClient) error) error {
	if err := p.wait(ctx); err != nil {
		return err
	}
	defer func() { <-p.free }()
	l, err := p.take()
	if err != nil {
		return err
	}
	defer p.give(l)
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cut)
		l.cut()
	})
	err = f(ctx, l.client)
	if !stop() {
		<-cut // before another call uses the line
	}
	return err
}

func (p *pool) wait(ctx context.Context) error {
	select {
	case p.free <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(p.options.PoolTimeout)
	defer timer.Stop()
	select {
	case p.free <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return redis.ErrPoolTimeout
	}
}

func (p *pool) take() (*line, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, redis.ErrClosed
	}
	if n := len(p.idle); n > 0 {
		l := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return l, nil
	}
	l := new(line)
	d, o := *p.dialer, p.options
	d.line, o.Dialer = l, d.dial
	l.client = redis.NewClient(&o)
	p.all = append(p.all, l)
	return l, nil
}

func (p *pool) give(l *line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, l)
}

// close ends the calls in progress.
func (p *pool) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	var errs []error
	for _, l := range p.all {
		errs = append(errs, ignoreClosed(l.client.Close()))
		l.cut()
	}
	return errors.Join(errs...)
}

// A line is a connection, for one call at a time, and the client that has it.
type line struct {
	client *redis.Client
	conn   atomic.Pointer[conn] // that was made last
}

// cut closes the connection. Its user sees an error.
func (l *line) cut() {
	if c := l.conn.Load(); c != nil {
		_ = c.Conn.Close() // again by go-redis
	}
}

// A conn is a connection that says when it is closed. TLS is on top of it.
type conn struct {
	net.Conn
	closed func() // if it is not nil
}

func (c *conn) Close() error {
	if c.closed != nil {
		c.closed()
	}
	return c.Conn.Close()
}

// SyscallConn lets go-redis see whether an idle connection is still alive.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
