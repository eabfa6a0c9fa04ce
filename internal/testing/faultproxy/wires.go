package faultproxy

import (
	"bufio"
	"context"
	"net"
	"sync"
	"sync/atomic"
)

// wires are the connections of a proxy or a network, with their faults.
type wires struct {
	accepted atomic.Int64
	requests atomic.Int64
	inFlight atomic.Int64
	raw      bool

	mu      sync.Mutex
	plan    func(Request) Fault
	vanish  func(conn int, data []byte) bool
	parted  chan struct{} // closed at the end of a partition; nil without one
	swallow bool
	links   map[*link]bool
	life    context.Context // done after Close
	end     context.CancelFunc
	wg      sync.WaitGroup
}

func newWires() *wires {
	life, end := context.WithCancel(context.Background())
	return &wires{links: map[*link]bool{}, life: life, end: end}
}

// Accepted returns the number of connections that were ever accepted.
func (w *wires) Accepted() int { return int(w.accepted.Load()) }

// Requests returns the number of requests that ever arrived.
func (w *wires) Requests() int { return int(w.requests.Load()) }

// InFlight returns the number of requests that arrived and were neither
// answered nor lost. It includes those of clients that have disconnected, which
// are still in transit.
func (w *wires) InFlight() int { return int(w.inFlight.Load()) }

// Plan sets the fault of each further request; nil means none. f is called by
// one goroutine at a time, in the order in which requests arrive, and must not
// call the proxy's methods.
func (w *wires) Plan(f func(Request) Fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.plan = f
}

// Partition stops all traffic in both directions, including the ends of
// connections. Nothing is lost: after [wires.Heal] it arrives.
func (w *wires) Partition() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.parted == nil {
		w.parted = make(chan struct{})
	}
}

// Swallow accepts connections and discards everything on them. Connections of
// which something was discarded stay half open, also after [wires.Heal].
func (w *wires) Swallow() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.swallow = true
}

// VanishIf makes a connection half open, for good, when the client sends data on it
// for which f returns true: that data arrives nowhere, and nothing after it in either
// direction. Other connections work, new ones too. It is for raw connections, of any
// protocol; nil ends it. f is called by one goroutine at a time, and must not call
// the proxy's methods.
func (w *wires) VanishIf(f func(conn int, data []byte) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.vanish = f
}

// vanishes reports whether a connection becomes half open with data.
func (w *wires) vanishes(conn int, data []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.vanish != nil && w.vanish(conn, data)
}

// Heal ends Partition and Swallow.
func (w *wires) Heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.parted != nil {
		close(w.parted)
	}
	w.parted, w.swallow = nil, false
}

// Cut closes all existing connections, on both sides.
func (w *wires) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for l := range w.links {
		l.close()
	}
}

func (w *wires) close() {
	w.end()
	w.Cut()
	w.wg.Wait()
}

// connect serves a client's connection; server is nil if it is to be dialed.
func (w *wires) connect(client, server net.Conn, dial func() (net.Conn, error)) {
	l := &link{
		w: w, client: client, server: server, dial: dial, number: int(w.accepted.Add(1)) - 1,
		in: bufio.NewReaderSize(client, 64<<10), done: make(chan struct{}),
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.life.Err() != nil {
		l.close()
		return
	}
	w.links[l] = true
	w.wg.Go(l.serve)
	if server != nil {
		w.wg.Go(l.answer)
	}
}

func (w *wires) forget(l *link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.links, l)
}

// judge returns the fault of a request.
func (w *wires) judge(r Request) Fault {
	w.requests.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.plan == nil {
		return Pass
	}
	return w.plan(r)
}

// now reports whether there is a partition, and until when, and whether data is
// swallowed.
func (w *wires) now() (parted chan struct{}, swallow bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.parted, w.swallow
}

// open returns when something may pass on l, or false if l is closed before.
func (w *wires) open(l *link) bool {
	for {
		parted, swallow := w.now()
		if swallow {
			l.kill()
		}
		if parted == nil {
			return true
		}
		select {
		case <-parted:
		case <-l.done:
			return false
		}
	}
}

// wait returns when a connection can be made.
func (w *wires) wait(ctx context.Context) error {
	for {
		parted, swallow := w.now()
		if swallow {
			parted = nil // swallowing has no known end; the caller gives up
		} else if parted == nil {
			return ctx.Err()
		}
		select {
		case <-parted:
		case <-ctx.Done():
			return ctx.Err()
		case <-w.life.Done():
			return net.ErrClosed
		}
	}
}
