package redisstore

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A clock applies timeouts, and the contexts of calls, to the connections of a client.
//
// go-redis applies a context's deadline to the connection, but not its cancellation: a
// cancelled call to a frozen server would return only at its timeout. And it does not
// say which connection a call uses. So each call has a context with a deadline that is
// unique to the nanosecond. The connection on which that deadline is set is the call's,
// and is interrupted soon after the call's context is done. If go-redis should set
// another deadline, cancellation is late again and nothing else changes.
//
// It costs some 500 ns per call. A goroutine for each call costs several times that.
type clock struct {
	read, write time.Duration

	mu    sync.Mutex
	calls map[int64]*callContext // by their current deadline
	// sweeping: a goroutine looks which of them are over.
	sweeping bool
}

func newClock(read, write time.Duration) *clock {
	return &clock{read: read, write: write, calls: make(map[int64]*callContext)}
}

// longest is over every timeout that the clock sets by itself, for go-redis,
// which takes the shorter of its own and the context's.
func (k *clock) longest() time.Duration { return max(k.read, k.write) + 10*time.Second }

// A callContext is the context of one call, which is sequential.
type callContext struct {
	context.Context
	clock *clock
	given time.Time            // the deadline that stands in clock.calls
	asked time.Time            // when it was asked for last
	over  atomic.Bool          // the call is
	conn  atomic.Pointer[conn] // that it uses, or used last
}

// watch returns a context whose end interrupts connections, until the function is
// called.
func (k *clock) watch(ctx context.Context) (context.Context, func()) {
	w := k.watched(ctx)
	return w, w.forget
}

// watched is watch, until the context's forget is called.
func (k *clock) watched(ctx context.Context) *callContext {
	if outer, ok := ctx.(*callContext); ok { // of which this is a part, beside others perhaps
		ctx = outer.Context
	}
	return &callContext{Context: ctx, clock: k}
}

// sweepEvery is how long after its context's end a call may be woken.
const sweepEvery = 5 * time.Millisecond

// sweep wakes the calls whose contexts have ended, as long as there are any calls.
// A context.AfterFunc for each call would cost more.
func (k *clock) sweep() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for range tick.C {
		var ended []*callContext
		k.mu.Lock()
		for _, w := range k.calls {
			if w.Context.Err() != nil {
				ended = append(ended, w)
			}
		}
		idle := len(k.calls) == 0
		k.sweeping = !idle
		k.mu.Unlock()
		for _, w := range ended {
			w.wake()
		}
		if idle {
			return
		}
	}
}

// Deadline is what go-redis asks for before it writes and before it reads. It is
// the same one for some seconds, and later than any timeout, which the connection
// knows; the context's own deadline wakes the call as its cancellation does.
func (w *callContext) Deadline() (time.Time, bool) {
	k, now := w.clock, time.Now()
	w.asked = now
	first := w.given.IsZero()
	if !first && w.given.Sub(now) > max(k.read, k.write) {
		return w.given, true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !first {
		delete(k.calls, w.given.UnixNano())
	}
	at := now.Add(k.longest() - time.Second).UnixNano()
	for k.calls[at] != nil {
		at--
	}
	w.given = time.Unix(0, at)
	k.calls[at] = w
	if !k.sweeping && w.Done() != nil {
		k.sweeping = true
		go k.sweep()
	}
	return w.given, true
}

func (w *callContext) forget() {
	w.over.Store(true)
	w.clock.mu.Lock()
	defer w.clock.mu.Unlock()
	delete(w.clock.calls, w.given.UnixNano())
}

// wake interrupts the call.
func (w *callContext) wake() {
	if c := w.conn.Load(); c != nil {
		c.wake(w)
	}
}

func (k *clock) call(deadline time.Time) *callContext {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.calls[deadline.UnixNano()]
}

// A conn is a connection that knows which call uses it. TLS is on top of it.
type conn struct {
	net.Conn
	clock  *clock
	closed func() // called when it is closed, if not nil

	mu   sync.Mutex
	user *callContext // nil for a call that is not watched
	last time.Time    // the deadline by which user is known
	used time.Time    // when a deadline was set last
	skip bool         // go-redis need not look at it
}

var past = time.Unix(1, 0)

func (c *conn) Close() error {
	if c.closed != nil {
		c.closed()
	}
	return c.Conn.Close()
}

func (c *conn) SetReadDeadline(t time.Time) error {
	return c.set(t, c.clock.read, c.Conn.SetReadDeadline)
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	return c.set(t, c.clock.write, c.Conn.SetWriteDeadline)
}

// set sets the deadline t or, if a watched call is known by that, the timeout.
func (c *conn) set(t time.Time, timeout time.Duration, set func(time.Time) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.user == nil || t != c.last || c.user.over.Load() {
		c.user, c.last = c.clock.call(t), t
	}
	if c.user == nil {
		c.used = time.Now()
	} else {
		c.used = c.user.asked // this moment, for this deadline
		t = c.used.Add(timeout)
		c.user.conn.Store(c)
		if c.user.Err() != nil { // and perhaps too early to find this connection
			t = past
		}
	}
	return set(t)
}

// wake makes what w does on the connection fail now, unless another call has
// the connection by now.
func (c *conn) wake(w *callContext) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.user == w {
		_ = c.Conn.SetDeadline(past) // it fails only if the connection is closed
	}
}

// presumedAlive is how long after its last use a connection is not looked at before
// the next. go-redis looks each time, which costs a third system call where a
// save needs two, and tells no more than the next answer does.
const presumedAlive = 10 * time.Millisecond

// SetDeadline is what go-redis calls before it looks at a connection that nobody
// uses: without a deadline, and to no purpose if it will not look.
func (c *conn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	c.skip = t.IsZero() && time.Since(c.used) < presumedAlive
	skip := c.skip
	c.mu.Unlock()
	if skip {
		return nil
	}
	return c.Conn.SetDeadline(t)
}

// SyscallConn lets go-redis see whether a connection that nobody uses is alive.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	c.mu.Lock()
	skip := c.skip
	c.mu.Unlock()
	if skip {
		return idleConn{}, nil
	}
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, net.ErrClosed
}

// An idleConn is a connection without anything to read.
type idleConn struct{}

func (idleConn) Control(func(uintptr)) error    { return nil }
func (idleConn) Read(func(uintptr) bool) error  { return nil }
func (idleConn) Write(func(uintptr) bool) error { return nil }
