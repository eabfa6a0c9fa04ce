package redisstore

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// A writer is under which fence something is written.
type writer struct {
	fence  state.Fence
	fenced bool
}

var unfenced writer

// fenced is for a write that must be refused unless f is the current fence. The
// zero fence never is.
func fenced(f state.Fence) writer { return writer{fence: f, fenced: true} }

// epoch is as the scripts take it, "" for an unfenced write.
func (w writer) epoch() string {
	if !w.fenced {
		return ""
	}
	return strconv.FormatUint(w.fence.Epoch, 10)
}

// A saving is one save on its way.
type saving struct {
	key    string
	by     writer
	cp     state.Checkpoint
	record recordText
	seal   *seal  // to try SET with, nil for the script
	last   uint64 // the last sequence after it, where seal is not nil
}

// prepare makes the record of a save that [record.CheckSave] has let through, in the
// memory of dst, and takes the seal if there is one. It must be given back.
func (s *Store) prepare(dst []byte, key string, by writer, cp state.Checkpoint) (saving, error) {
	v := saving{key: key, by: by, cp: cp, last: cp.Sequence}
	if s.ttl == 0 && by.fenced == !by.fence.IsZero() {
		v.seal = s.seals.take(key, by.fence)
	}
	epoch := by.fence.Epoch
	if v.seal != nil {
		epoch = v.seal.epoch
		switch {
		case cp.Sequence == 0:
			v.last = v.seal.last
		case cp.Sequence <= v.seal.last: // stale, or said again: the script's to decide
			s.seals.give(key, v.seal, true)
			v.seal = nil
		}
	}
	var err error
	if v.record, err = encode(dst, cp, v.last, epoch, time.Now()); err != nil && v.seal != nil {
		s.seals.give(key, v.seal, true)
	}
	return v, err
}

// again tells whether it may be repeated although it may have been done.
func (v *saving) again() bool { return v.by.fenced || v.cp.Sequence != 0 }

// buffers are for the records of saves that go the short way.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 640); return &b }}

// maxBuffer is how large a buffer is kept: most records have some 400 bytes.
const maxBuffer = 16 << 10

func (s *Store) save(ctx context.Context, key string, by writer, cp state.Checkpoint) error {
	if err := record.CheckSave(key, cp); err != nil {
		return s.fail("save", key, err)
	}
	buf := buffers.Get().(*[]byte)
	v, err := s.prepare((*buf)[:0], key, by, cp)
	if err != nil {
		return s.fail("save", key, err)
	}
	if v.seal != nil && s.clock != nil && ctx.Err() == nil && s.enter() {
		// The first attempt with the least ado: most saves need no more.
		w := s.clock.watched(ctx)
		r, err := s.send(w, "", "", v.set())
		w.forget()
		s.calls.Done()
		if s.settle(&v, r, err) {
			if *buf = v.record.text; cap(*buf) <= maxBuffer {
				buffers.Put(buf) // it was written, and the answer has come: nobody has it
			}
			return nil
		}
		if ctx.Err() != nil && !s.isClosed() && (err == nil || s.classify(err) != final) {
			return s.fail("save", key, interrupted(ctx, err)) // and not as one that ended before the call
		}
		return s.fail("save", key, s.persevere(ctx, v, err))
	}
	return s.fail("save", key, s.persevere(ctx, v, nil))
}

// persevere goes on with a save of which the first attempt ended with the error
// first, or was not made, or found the seal broken, if that is nil.
func (s *Store) persevere(ctx context.Context, v saving, first error) error {
	seal, refused := v.seal, error(nil)
	err := s.try(ctx, v.key, v.again(), func(ctx context.Context) error {
		if err := first; err != nil {
			first = nil
			return err
		}
		var failed error
		refused, failed = s.attempt(ctx, &v)
		return failed
	})
	if err == nil {
		return refused
	}
	if seal != nil { // perhaps it was not even tried, and perhaps it still is
		s.seals.give(v.key, seal, false)
	}
	return err
}

// attempt tries a save once: with SET, if it has a seal, and where that is broken
// by the script. What the script refuses is refused for good.
func (s *Store) attempt(ctx context.Context, v *saving) (refused, err error) {
	if v.seal != nil {
		r, err := s.send(ctx, "", "", v.set())
		if s.settle(v, r, err) || err != nil {
			return nil, err
		}
	}
	var sealed string
	c, err := s.saveCall(v, &sealed)
	if err != nil {
		return err, nil
	}
	r, err := s.run(ctx, c)
	if err != nil {
		return nil, err
	}
	return s.saved(v, sealed, r), nil
}

// set is the save as a SET.
func (v *saving) set() call { return call{key: v.key, name: v.seal.name, text: v.record.text} }

// settle takes note of what SET answered, and tells whether the save is done.
func (s *Store) settle(v *saving, r reply, err error) bool {
	done := err == nil && r.refusal() == nil
	if done {
		v.seal.last = v.last
	}
	s.seals.give(v.key, v.seal, done)
	v.seal = nil
	return done
}

// saveCall is the save as a script.
func (s *Store) saveCall(v *saving, sealed *string) (call, error) {
	token, err := tokenEnd(v.cp)
	if err != nil {
		return call{}, err
	}
	text, incomplete := v.record.text, 0
	if !v.by.fenced || v.cp.Sequence == 0 { // epoch and last sequence are the script's to know
		text, incomplete = text[v.record.document:], 1
	}
	c := call{
		script: saveScript, key: v.key, again: v.again(), sealed: sealed,
		args: []any{v.by.epoch(), v.by.fence.Nonce, text, incomplete, s.ttl, v.cp.Sequence, token},
	}
	if s.ttl > 0 {
		c.extra = s.record(v.key, openSeal)
	}
	return c, nil
}

// saved takes note of what the script answered.
func (s *Store) saved(v *saving, sealed string, r reply) error {
	err := r.refusal()
	switch {
	case errors.Is(err, state.ErrFenced):
		s.seals.drop(v.key, v.by.fence)
	case err == nil:
		s.keep(v.key, v.by.fence, sealed, r)
	}
	return err
}

// keep keeps the seal that a script has made, if records of this store have one.
// The answer r begins with OK, epoch, last sequence.
func (s *Store) keep(key string, f state.Fence, sealed string, r reply) {
	if s.ttl == 0 && r.text(0) == "OK" {
		s.seals.put(key, &seal{name: s.record(key, sealed), fence: f, epoch: r.number(1), last: r.number(2)})
	}
}
