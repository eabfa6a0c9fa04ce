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

// A writer identifies the fence, if any, that a write is made under.
type writer struct {
	fence  state.Fence
	fenced bool
}

var unfenced writer

// fenced returns the writer for a write that is refused unless f is the current fence.
// The zero fence never is.
func fenced(f state.Fence) writer { return writer{fence: f, fenced: true} }

// epoch returns the epoch for the scripts, "" for an unfenced write.
func (w writer) epoch() string {
	if !w.fenced {
		return ""
	}
	return strconv.FormatUint(w.fence.Epoch, 10)
}

// A pendingSave is one save in progress.
type pendingSave struct {
	key    string
	by     writer
	cp     state.Checkpoint
	record recordText
	seal   *seal  // to try SET with, nil for the script
	last   uint64 // the last sequence after it, where seal is not nil
}

// prepare makes the record of a save that [record.CheckSave] has accepted, in the
// memory of dst, and takes the seal if there is one. The caller returns the seal.
func (s *Store) prepare(dst []byte, key string, by writer, cp state.Checkpoint) (pendingSave, error) {
	v := pendingSave{key: key, by: by, cp: cp, last: cp.Sequence}
	if s.ttl == 0 && by.fenced == !by.fence.IsZero() {
		v.seal = s.seals.take(key, by.fence)
	}
	epoch := by.fence.Epoch
	if v.seal != nil {
		epoch = v.seal.epoch
		switch {
		case cp.Sequence == 0:
			v.last = v.seal.last
		case cp.Sequence <= v.seal.last: // stale or repeated: the script decides
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

// again reports whether it may be retried although it may have been executed.
func (v *pendingSave) again() bool { return v.by.fenced || v.cp.Sequence != 0 }

// buffers are for the records of saves without retries.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 640); return &b }}

// maxBuffer is the maximum size of a buffer that is kept; most records have some 400
// bytes.
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
		// The first attempt without the overhead of retries: most saves need no more.
		w := s.clock.watched(ctx)
		r, err := s.send(w, "", "", v.set())
		w.forget()
		s.calls.Done()
		if s.settle(&v, r, err) {
			if *buf = v.record.text; cap(*buf) <= maxBuffer {
				buffers.Put(buf) // after the response, nothing refers to it
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

// persevere retries a save whose first attempt failed with the error first. If that is
// nil, it was not made or the seal was no longer valid.
func (s *Store) persevere(ctx context.Context, v pendingSave, first error) error {
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
	if seal != nil { // perhaps it was not tried, or still is
		s.seals.give(v.key, seal, false)
	}
	return err
}

// attempt tries a save once: with SET if it has a seal, and by the script if that is no
// longer valid. A refusal by the script is final.
func (s *Store) attempt(ctx context.Context, v *pendingSave) (refused, err error) {
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

// set returns the call that saves with SET.
func (v *pendingSave) set() call { return call{key: v.key, name: v.seal.name, text: v.record.text} }

// settle records the response to SET, and reports whether the save is done.
func (s *Store) settle(v *pendingSave, r reply, err error) bool {
	done := err == nil && r.refusal() == nil
	if done {
		v.seal.last = v.last
	}
	s.seals.give(v.key, v.seal, done)
	v.seal = nil
	return done
}

// saveCall returns the call that saves by the script.
func (s *Store) saveCall(v *pendingSave, sealed *string) (call, error) {
	token, err := tokenEnd(v.cp)
	if err != nil {
		return call{}, err
	}
	text, incomplete := v.record.text, 0
	if !v.by.fenced || v.cp.Sequence == 0 { // the script knows epoch and last sequence
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

// saved records the response of the script.
func (s *Store) saved(v *pendingSave, sealed string, r reply) error {
	err := r.refusal()
	switch {
	case errors.Is(err, state.ErrFenced):
		s.seals.drop(v.key, v.by.fence)
	case err == nil:
		s.keep(v.key, v.by.fence, sealed, r)
	}
	return err
}

// keep keeps the seal that a script has made, if records of this store have one. The
// response r begins with OK, epoch, last sequence.
func (s *Store) keep(key string, f state.Fence, sealed string, r reply) {
	if s.ttl == 0 && r.text(0) == "OK" {
		s.seals.put(key, &seal{name: s.record(key, sealed), fence: f, epoch: r.number(1), last: r.number(2)})
	}
}
