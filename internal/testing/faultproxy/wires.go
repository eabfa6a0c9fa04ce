package faultproxy

import (
	"bufio"
	"context"
	"net"
	"sync"
	"sync/atomic"
)

// wires are the connections of a proxy or a network, and what befalls them.
type wires struct {
	accepted atomic.Int64
	requests atomic.Int64
	inFlight atomic.Int64
	raw      bool

	mu      sync.Mutex
	plan    func(Request) Fault
	parted  chan struct{} // closed when they are no longer parted; nil: they aren't
	swallow bool
	links   map[*link]bool
	life    context.Context // ends with Close
	end     context.CancelFunc
	wg      sync.WaitGroup
}

func newWires() *wires {
	life, end := context.WithCancel(context.Background())
	return &wires{links: map[*link]bool{}, life: life, end: end}
}

// Accepted is how many connections came, ever.
func (w *wires) Accepted() int { return int(w.accepted.Load()) }

// Requests is how many requests came, ever.
func (w *wires) Requests() int { return int(w.requests.Load()) }

// InFlight is how many requests came and were neither answered nor lost. A lost
// client does not count: what it has sent is still on its way.
func (w *wires) InFlight() int { return int(w.inFlight.Load()) }

// Plan says what befalls each request from now on; nil: nothing does. f is called
// by one goroutine at a time, in the order in which requests come, and must not call
// the proxy's methods.
func (w *wires) Plan(f func(Request) Fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.plan = f
}

// Partition stops everything on its way in both directions, and the ends of
// connections too. Nothing is lost: [wires.Heal] lets it arrive.
func (w *wires) Partition() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.parted == nil {
		w.parted = make(chan struct{})
	}
}

// Swallow takes connections and everything on them and lets nothing through. Those
// from which something was swallowed stay half open, also after [wires.Heal].
func (w *wires) Swallow() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.swallow = true
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

// Cut closes all connections there are, on both sides.
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

// connect serves a client's connection; server is nil if it is to be dialled.
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

// judge is what befalls a request.
func (w *wires) judge(r Request) Fault {
	w.requests.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.plan == nil {
		return Pass
	}
	return w.plan(r)
}

// now is whether client and servers are parted, and until when; and whether what
// comes is swallowed.
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
			parted = nil // no end of that is told; the caller gives up
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
