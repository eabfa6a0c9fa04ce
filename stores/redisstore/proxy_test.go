package redisstore_test

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// A proxy stands between a store and Redis and breaks what it is told to.
type proxy struct {
	t        *testing.T
	listener net.Listener
	server   string

	mu    sync.Mutex
	cuts  []cut // for the next scripts, in order
	conns map[net.Conn]bool

	accepted atomic.Int64 // connections, ever
	scripts  atomic.Int64 // scripts that came
}

// A cut says what becomes of one script.
type cut int

const (
	pass   cut = iota
	before     // Redis does not get it
	after      // Redis executes it, and the answer is lost
)

func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, listener: l, server: server, conns: map[net.Conn]bool{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.accepted.Add(1)
			p.track(c)
			wg.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		for c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		wg.Wait()
	})
	return p
}

func (p *proxy) url() string { return "redis://" + p.listener.Addr().String() }

// next says what becomes of the next scripts; those after them pass.
func (p *proxy) next(cuts ...cut) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cuts = cuts
	p.scripts.Store(0)
}

func (p *proxy) take() cut {
	p.scripts.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.cuts) == 0 {
		return pass
	}
	c := p.cuts[0]
	p.cuts = p.cuts[1:]
	return c
}

func (p *proxy) track(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		return
	}
	p.track(server)
	defer server.Close()
	var lose atomic.Bool
	answered := make(chan struct{})
	go func() { // ends with the connections
		defer close(answered)
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if err != nil || lose.Load() {
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 1<<20)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(buf[:n], []byte("evalsha")) {
			switch p.take() {
			case before:
				return
			case after:
				lose.Store(true)
				if _, err := server.Write(buf[:n]); err == nil {
					<-answered
				}
				return
			}
		}
		if _, err := server.Write(buf[:n]); err != nil && err != io.EOF {
			return
		}
	}
}
