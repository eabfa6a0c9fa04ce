package faultproxy

import (
	"bufio"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A link is one connection of a client, with the proxy's connection to the
// server for it.
type link struct {
	w      *wires
	number int
	client net.Conn
	in     *bufio.Reader
	dial   func() (net.Conn, error)

	pending atomic.Int64 // requests neither answered nor lost

	mu     sync.Mutex
	server net.Conn // written by serve only, once
	asked  []Fault  // for the requests that were sent and not answered
	dead   bool     // something was swallowed: nothing passes any more
	done   chan struct{}
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.done:
		return
	default:
	}
	close(l.done)
	_ = l.client.Close() // data in transit is meant to be lost
	if l.server != nil {
		_ = l.server.Close()
	}
}

// kill makes the link pass nothing any more.
func (l *link) kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
}

func (l *link) isDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

// serve handles what the client sends.
func (l *link) serve() {
	defer l.w.forget(l)
	defer l.lose()
	defer l.close()
	next := l.request
	if l.w.raw {
		next = l.chunk
	}
	if _, shakes := l.client.(*tls.Conn); shakes && !l.w.open(l) {
		return // parted, they don't shake hands
	}
	for n := 0; next(n); n++ {
	}
}

// request handles the n-th request, and reports whether the connection
// continues.
func (l *link) request(n int) bool {
	raw, args, err := readRequest(l.in)
	if err == nil {
		l.count(1)
	}
	// During a partition the server does not learn of the end of a connection
	// either.
	if !l.w.open(l) {
		return false
	}
	if err != nil {
		l.finish()
		return false
	}
	return l.forward(raw, l.w.judge(Request{Conn: l.number, N: n, Args: args, More: l.in.Buffered() > 0}))
}

// chunk handles raw bytes, and reports whether the connection continues.
func (l *link) chunk(int) bool {
	buf := make([]byte, 64<<10)
	n, err := l.in.Read(buf)
	if !l.w.open(l) {
		return false
	}
	if err != nil {
		l.finish()
		return false
	}
	if l.w.vanishes(l.number, buf[:n]) {
		l.kill()
	}
	if l.isDead() {
		return true
	}
	if !l.connect() {
		return false
	}
	_, err = l.server.Write(buf[:n])
	return err == nil
}

// finish forwards the end of the client's connection to the server, and waits
// until the server has executed what came before and has closed its side.
func (l *link) finish() {
	half, ok := l.server.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return // never connected, or closed
	}
	<-l.done
}

// count counts requests that are in flight.
func (l *link) count(n int64) {
	l.pending.Add(n)
	l.w.inFlight.Add(n)
}

// lose subtracts the requests that are lost with the link.
func (l *link) lose() { l.w.inFlight.Add(-l.pending.Swap(0)) }

// forward sends a request to the server, subject to fault, and reports whether
// the connection continues.
func (l *link) forward(raw []byte, fault Fault) bool {
	switch fault.kind {
	case cutBefore:
		return false
	case vanish:
		l.kill()
	case delay:
		if !l.sleep(fault.d) {
			return false
		}
	case hold:
		defer fault.held.end()
		if !fault.held.await(l) {
			return false
		}
	}
	if l.isDead() {
		return true
	}
	if !l.connect() {
		return false
	}
	if fault.kind == cutInside {
		_, _ = l.server.Write(raw[:len(raw)/2]) // if not even that arrives, it is as good
		return false
	}
	l.mu.Lock()
	l.asked = append(l.asked, fault)
	l.mu.Unlock()
	if _, err := l.server.Write(raw); err != nil {
		return false
	}
	// The client of a held request may have disconnected; that must not
	// overtake the answer.
	return fault.kind != hold || fault.held.answered(l)
}

// connect connects to the server unless it is connected.
func (l *link) connect() bool {
	if l.server != nil {
		return true
	}
	c, err := l.dial()
	if err != nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.done:
		_ = c.Close() // nothing was sent
		return false
	default:
		l.server = c
		l.w.wg.Go(l.answer)
		return true
	}
}

// answer forwards the server's answers.
func (l *link) answer() {
	defer l.close()
	r := bufio.NewReaderSize(l.server, 64<<10)
	next := l.reply
	if l.w.raw {
		next = l.chunkBack
	}
	for next(r) {
	}
}

func (l *link) chunkBack(r *bufio.Reader) bool {
	buf := make([]byte, 64<<10)
	n, err := r.Read(buf)
	if !l.w.open(l) || err != nil {
		return false
	}
	if !l.isDead() {
		_, _ = l.client.Write(buf[:n]) // serve sees that the client is gone
	}
	return true
}

// reply forwards one answer, and reports whether the connection continues.
func (l *link) reply(r *bufio.Reader) bool {
	raw, unasked, err := readReply(r)
	if !l.w.open(l) || err != nil {
		return false
	}
	if l.isDead() {
		return true
	}
	fault := Pass
	if !unasked {
		fault = l.oldest()
	}
	switch fault.kind {
	case cutAfter:
		return false
	case delayAnswer:
		if !l.sleep(fault.d) {
			return false
		}
	case hold:
		fault.held.answer(raw)
	}
	_, _ = l.client.Write(raw) // serve sees that the client is gone, when it may
	return true
}

// oldest returns the fault of the request that the next answer belongs to.
func (l *link) oldest() Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.asked) == 0 {
		return Pass
	}
	f := l.asked[0]
	l.asked = l.asked[1:]
	l.count(-1)
	return f
}

func (l *link) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.done:
		return false
	}
}
