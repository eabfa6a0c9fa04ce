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
	Args [][]byte // the command's name and what follows
	More bool     // another request is at hand already: they come in a pipeline
}

// Is tells whether the command is one of those, in any case of letters.
func (r Request) Is(commands ...string) bool {
	for _, c := range commands {
		if len(r.Args) > 0 && strings.EqualFold(string(r.Args[0]), c) {
			return true
		}
	}
	return false
}

// A Fault is what befalls one request.
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

// The faults that need nothing said.
var (
	Pass      = Fault{}                // none
	CutBefore = Fault{kind: cutBefore} // the connection ends, and the server has not got the request
	CutInside = Fault{kind: cutInside} // the server gets the first half
	CutAfter  = Fault{kind: cutAfter}  // the server executes it, and the connection ends before its answer
	Vanish    = Fault{kind: vanish}    // the connection stays half open: nothing arrives, now and later
)

// Delay has the request wait before it is sent on, and all after it on its
// connection.
func Delay(d time.Duration) Fault { return Fault{kind: delay, d: d} }

// DelayAnswer has the answer wait.
func DelayAnswer(d time.Duration) Fault { return Fault{kind: delayAnswer, d: d} }

// A Held is a request that waits in the network until it is let through. It arrives
// even if its client has gone meanwhile, as a packet does.
type Held struct {
	arrived  chan struct{}
	released chan struct{}
	reply    chan string
	ended    chan struct{}

	arrive, release, over sync.Once
}

// NewHeld makes one, for one request.
func NewHeld() *Held {
	return &Held{
		arrived: make(chan struct{}), released: make(chan struct{}), ended: make(chan struct{}),
		reply: make(chan string, 1),
	}
}

// Fault is what holds a request.
func (h *Held) Fault() Fault { return Fault{kind: hold, held: h} }

// Arrived is closed when the request is held.
func (h *Held) Arrived() <-chan struct{} { return h.arrived }

// ErrLost is for a request that was held, and whose connection to the server ended
// before it was answered.
var ErrLost = errors.New("faultproxy: the connection of the request that was held has ended")

// Release lets the request through and returns what the server answered, as it
// came.
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

// await holds until it is released, or false if the connection ends before.
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
