package redisstore_test

import (
	"sync/atomic"
	"testing"

	"github.com/rigatoni-etl/rigatoni/internal/testing/faultproxy"
)

// A proxy stands between a store and Redis and breaks scripts (and SETs) on demand.
type proxy struct {
	*faultproxy.Proxy
	accepted counter      // connections, ever
	scripts  atomic.Int64 // scripts that came since next
}

type counter func() int

func (c counter) Load() int64 { return int64(c()) }

// A cut says what becomes of one script.
type cut = faultproxy.Fault

var (
	before = faultproxy.CutBefore // Redis does not get it
	inside = faultproxy.CutInside // Redis gets half of it
	after  = faultproxy.CutAfter  // Redis executes it, and the answer is lost
)

func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	p := &proxy{Proxy: faultproxy.Start(t, server, nil)}
	p.accepted = p.Accepted
	p.next()
	return p
}

func (p *proxy) url() string { return "redis://" + p.Addr() }

// next says what becomes of the next scripts; those after them pass.
func (p *proxy) next(cuts ...cut) {
	p.scripts.Store(0)
	p.Plan(func(r faultproxy.Request) faultproxy.Fault {
		if !r.Is("evalsha", "set") {
			return faultproxy.Pass
		}
		n := p.scripts.Add(1)
		if n > int64(len(cuts)) {
			return faultproxy.Pass
		}
		return cuts[n-1]
	})
}

// touchesKeys reports whether a request is one of a store's operations, and not one that
// sets up a connection, looks at the server or asks about it.
func touchesKeys(r faultproxy.Request) bool {
	return !r.Is("hello", "auth", "client", "select", "readonly", "ping", "info", "role", "command", "cluster", "sentinel", "scan", "wait")
}
