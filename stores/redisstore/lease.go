package redisstore

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A writer is under which fence a script writes: its epoch and nonce.
type writer struct{ epoch, nonce string }

var unfenced writer

// fenced is for a write that must be refused unless f is the current fence. The
// zero fence never is.
func fenced(f state.Fence) writer {
	return writer{epoch: strconv.FormatUint(f.Epoch, 10), nonce: f.Nonce}
}

// Acquire is [state.Leaser]'s, and one round trip. Leases live by Redis's clock,
// to the millisecond; a lease of a fraction of one is rounded up. The
// checkpoint's time to live starts anew.
func (s *Store) Acquire(ctx context.Context, key string, r state.LeaseRequest) (state.Grant, error) {
	g, err := s.acquire(ctx, key, r)
	return g, s.fail("acquire", key, err)
}

func (s *Store) acquire(ctx context.Context, key string, r state.LeaseRequest) (state.Grant, error) {
	if err := state.CheckKey(key); err != nil {
		return state.Grant{}, err
	}
	if err := state.CheckLeaseRequest(r); err != nil {
		return state.Grant{}, err
	}
	steal := 0
	if r.Steal {
		steal = 1
	}
	got, err := s.call(ctx, call{
		script: acquireScript, key: key, again: true,
		args: []any{r.Owner, r.Nonce, millis(r.TTL), steal, s.ttl},
	})
	if err != nil {
		return state.Grant{}, err
	}
	g := state.Grant{
		Fence:        state.Fence{Epoch: got.number(1), Nonce: r.Nonce},
		LastSequence: got.number(2),
	}
	g.Checkpoint, g.Err = got.checkpoint(3)
	if g.Err != nil && !isAbsence(g.Err) {
		// The script can tell that the value is what was saved, not that this
		// program can read it. What can't be read is not granted.
		return state.Grant{}, withCleanup(g.Err, s.Release(ctx, key, g.Fence))
	}
	return g, nil
}

// Renew is [state.Leaser]'s, and one round trip.
func (s *Store) Renew(ctx context.Context, key string, f state.Fence, ttl time.Duration) error {
	if err := checkRenewal(key, ttl); err != nil {
		return s.fail("renew", key, err)
	}
	w := fenced(f)
	_, err := s.call(ctx, call{
		script: renewScript, key: key, again: true,
		args: []any{w.epoch, w.nonce, millis(ttl), s.ttl},
	})
	return s.fail("renew", key, err)
}

// Release is [state.Leaser]'s, and one round trip.
func (s *Store) Release(ctx context.Context, key string, f state.Fence) error {
	if err := state.CheckKey(key); err != nil {
		return s.fail("release", key, err)
	}
	w := fenced(f)
	_, err := s.call(ctx, call{script: releaseScript, key: key, again: true, args: []any{w.epoch, w.nonce}})
	return s.fail("release", key, err)
}

// SaveFenced is [state.Leaser]'s, and one round trip.
func (s *Store) SaveFenced(ctx context.Context, key string, f state.Fence, cp state.Checkpoint) error {
	return s.save(ctx, key, fenced(f), cp)
}

// ClearFenced is [state.Leaser]'s, and one round trip.
func (s *Store) ClearFenced(ctx context.Context, key string, f state.Fence) error {
	return s.clear(ctx, key, fenced(f))
}

func (s *Store) save(ctx context.Context, key string, w writer, cp state.Checkpoint) error {
	if err := state.CheckSave(key, cp); err != nil {
		return s.fail("save", key, err)
	}
	value, err := encode(cp, time.Now())
	if err != nil {
		return s.fail("save", key, err)
	}
	_, err = s.call(ctx, call{
		script: saveScript, key: key, again: w != unfenced || cp.Sequence != 0,
		args: []any{w.epoch, w.nonce, value, s.ttl, cp.Sequence, savedAs(cp, value)},
	})
	return s.fail("save", key, err)
}

func (s *Store) clear(ctx context.Context, key string, w writer) error {
	if err := state.CheckKey(key); err != nil {
		return s.fail("clear", key, err)
	}
	_, err := s.call(ctx, call{script: clearScript, key: key, again: w != unfenced, args: []any{w.epoch, w.nonce}})
	return s.fail("clear", key, err)
}

// encode is the checkpoint as it lies in Redis: the stored form of a record,
// with the fields of a checkpoint only. Its epoch is the script's to know and
// lies beside the fence.
func encode(cp state.Checkpoint, now time.Time) ([]byte, error) {
	if cp.SavedAt.IsZero() {
		cp.SavedAt = now
	}
	cp.SavedAt = cp.SavedAt.UTC().Truncate(time.Millisecond)
	cp.Epoch = 0
	rec := state.Record{Status: state.StatusSaved, Checkpoint: cp, LastSequence: cp.Sequence}
	return rec.AppendJSON(make([]byte, 0, 512))
}

// savedAs is what the fence remembers of a checkpoint, so that the scripts need
// not read it: its sequence, a digest of its token (which tells a repeated save
// from another one with the same sequence; 0 is none), and the digest of value, which
// shows that it was changed. SHA-1 is the one that the scripts have; it is
// against accidents. The script adds epoch and expiry.
func savedAs(cp state.Checkpoint, value []byte) []byte {
	b := strconv.AppendUint(append(make([]byte, 0, 128), "seq="...), cp.Sequence, 10)
	b = append(b, " token="...)
	if cp.Sequence == 0 {
		b = append(b, '0')
	} else {
		d := sha256.Sum256(cp.Token.Raw())
		b = hex.AppendEncode(b, d[:8])
	}
	return appendSum(append(b, ' '), value)
}

func appendSum(b, value []byte) []byte {
	d := sha1.Sum(value)
	return hex.AppendEncode(append(b, "sha1="...), d[:])
}

// millis is d in milliseconds, rounded up: a lease is never shorter than was asked for.
func millis(d time.Duration) int64 {
	return int64((d-1)/time.Millisecond) + 1
}

func checkRenewal(key string, ttl time.Duration) error {
	if err := state.CheckKey(key); err != nil {
		return err
	}
	return state.CheckLeaseRequest(state.LeaseRequest{Nonce: "any", TTL: ttl})
}
