package filestore

import (
	"bufio"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A lifetime is a life under way in a child, seen by whoever will end it.
type lifetime struct {
	process *process
	ledger  *ledger // not to be looked at before the end
	mayFail atomic.Bool

	mu    sync.Mutex
	acked int
	until map[int]chan struct{} // by a number of calls: closed when they are acknowledged
	ended chan struct{}
	err   error // what was wrong with what it said; when it has ended
}

// beginLife starts a child that lives in dir.
func beginLife(t *testing.T, binary, dir string, led *ledger, of life) *lifetime {
	t.Helper()
	text, err := json.Marshal(of)
	must(t, err)
	l := &lifetime{ledger: led, until: map[int]chan struct{}{}, ended: make(chan struct{})}
	l.process = startBinary(t, binary, "life", dir, lifeVar+"="+string(text))
	go l.follow()
	return l
}

// follow reads what the life says until it is dead.
func (l *lifetime) follow() {
	defer close(l.ended)
	for l.process.lines.Scan() {
		if err := l.ledger.read(l.process.lines.Text(), l.mayFail.Load()); err != nil {
			l.err = errors.Join(l.err, err)
		}
		if strings.HasPrefix(l.process.lines.Text(), "done ") {
			l.count()
		}
	}
}

// whole is bufio.ScanLines, but that a last line without its end was cut short and says
// nothing.
func whole(data []byte, atEOF bool) (int, []byte, error) { return bufio.ScanLines(data, false) }

func (l *lifetime) count() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked++
	if c := l.until[l.acked]; c != nil {
		close(c)
	}
}

// after returns when n calls have been acknowledged, or the life has ended.
func (l *lifetime) after(n int) {
	l.mu.Lock()
	c := make(chan struct{})
	if n <= l.acked {
		close(c)
	} else {
		l.until[n] = c
	}
	l.mu.Unlock()
	select {
	case <-c:
	case <-l.ended:
	}
}

// killSoon kills the child at a random moment: while it starts, or after some calls.
func (l *lifetime) killSoon(r *rand.Rand) {
	if r.IntN(8) == 0 {
		<-time.After(time.Duration(r.IntN(20_000)) * time.Microsecond)
	} else {
		l.after(1 + r.IntN(80))
		spin(time.Duration(r.IntN(1000)) * time.Microsecond)
	}
	_ = l.process.cmd.Process.Kill() // it may have ended by itself, which end tells
}

// spin waits more exactly than the scheduler would.
func spin(d time.Duration) {
	for start := time.Now(); time.Since(start) < d; {
	}
}

// end waits for the end of a child that is being killed, and says whether anything was
// wrong with it before.
func (l *lifetime) end() error {
	<-l.ended
	l.process.cmd.Wait()
	l.ledger.died()
	return l.err
}
