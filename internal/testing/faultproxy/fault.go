package faultproxy

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"
)

// A Request is one command of a client.
type Request struct {
	Conn int      // which connection, from 0
	N    int      // which request on it, from 0
	Args [][]byte // the command and its arguments
	More bool     // another request has arrived already, as in a pipeline
}

// Is reports whether the command is one of those, ignoring case.
func (r Request) Is(commands ...string) bool {
	for _, c := range commands {
		if len(r.Args) > 0 && strings.EqualFold(string(r.Args[0]), c) {
			return true
		}
	}
	return false
}

// A Fault is what happens to one request.
type Fault struct {
	kind kind
	d    time.Duration
	held *Held
}

type kind int

const (
	pass kind = iota
	cutBefore
	cutInside
	cutAfter
	vanish
	delay
	delayAnswer
	hold
)

// Faults without parameters.
var (
	Pass      = Fault{}                // none
	CutBefore = Fault{kind: cutBefore} // the connection is cut before the server receives the request
	CutInside = Fault{kind: cutInside} // the server receives the first half
	CutAfter  = Fault{kind: cutAfter}  // the server executes it, and the connection is cut before its answer
	Vanish    = Fault{kind: vanish}    // the connection stays half open: nothing arrives any more
)

// Delay delays the request, and all after it on its connection.
func Delay(d time.Duration) Fault { return Fault{kind: delay, d: d} }

// DelayAnswer delays the answer.
func DelayAnswer(d time.Duration) Fault { return Fault{kind: delayAnswer, d: d} }

// A Held is a request that is held in the network until it is released. It
// arrives even if its client has disconnected meanwhile, like a packet.
type Held struct {
	arrived  chan struct{}
	released chan struct{}
	reply    chan string
	ended    chan struct{}

	arrive, release, over sync.Once
}

// NewHeld returns a Held for one request.
func NewHeld() *Held {
	return &Held{
		arrived: make(chan struct{}), released: make(chan struct{}), ended: make(chan struct{}),
		reply: make(chan string, 1),
	}
}

// Fault returns the fault that holds a request.
func (h *Held) Fault() Fault { return Fault{kind: hold, held: h} }

// Arrived is closed when the request is held.
func (h *Held) Arrived() <-chan struct{} { return h.arrived }

// ErrLost is returned for a held request whose connection to the server ended
// before it was answered.
var ErrLost = errors.New("faultproxy: the connection of the request that was held has ended")

// Release lets the request through and returns the server's raw answer.
func (h *Held) Release(ctx context.Context) (string, error) {
	h.release.Do(func() { close(h.released) })
	select {
	case r := <-h.reply:
		return r, nil
	case <-ctx.Done():
		return "", ctx.Err()
	case <-h.ended:
	}
	select {
	case r := <-h.reply:
		return r, nil
	default:
		return "", ErrLost
	}
}

// await waits for the release; it returns false if the connection ends before.
func (h *Held) await(l *link) bool {
	h.arrive.Do(func() { close(h.arrived) })
	select {
	case <-h.released:
		return true
	case <-l.done:
		return false
	}
}

func (h *Held) answer(raw []byte) {
	h.reply <- string(raw)
	h.end()
}

// answered waits for the answer, or returns false if the connection ends before.
func (h *Held) answered(l *link) bool {
	select {
	case <-h.ended:
		return true
	case <-l.done:
		return false
	}
}

func (h *Held) end() { h.over.Do(func() { close(h.ended) }) }
