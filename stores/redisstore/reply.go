package redisstore

import (
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A reply is the response of a script: a word and its arguments. It is empty if it
// says only that the call was executed.
type reply []any

// answer returns the reply that go-redis has read.
func answer(cmd *redis.Cmd) (reply, error) {
	v, err := cmd.Result()
	if err != nil {
		return nil, err
	}
	return replyOf(v)
}

func replyOf(v any) (reply, error) {
	switch v := v.(type) {
	case []any:
		return v, nil
	case int64:
		return nil, nil
	case error:
		return nil, v
	}
	return nil, errNotOurs
}

func (r reply) text(i int) string {
	if i >= len(r) {
		return ""
	}
	s, _ := r[i].(string)
	return s
}

func (r reply) number(i int) uint64 {
	if i >= len(r) {
		return 0
	}
	n, _ := r[i].(int64)
	return uint64(n)
}

// refusal returns the error that the reply means, nil for success.
func (r reply) refusal() error {
	if len(r) == 0 {
		return nil
	}
	if _, word := r[0].(string); !word {
		return nil // a group's
	}
	switch r.text(0) {
	case "OK", "NONE", "EXPIRED", "GRANTED", "LOST":
		return nil
	case "GONE":
		return errGone
	case "HELD":
		return &state.HeldError{Owner: r.text(1), Until: time.Now().Add(time.Duration(r.number(2)) * time.Millisecond)}
	case "FENCED":
		if r.number(1) == 0 {
			return fmt.Errorf("%w: Redis has lost the key's fence: it was deleted or evicted, or the server lost data", state.ErrFenced)
		}
		return state.ErrFenced
	case "STALE":
		return fmt.Errorf("%w: the last sequence is %d", state.ErrStale, r.number(1))
	case "USED":
		return fmt.Errorf("%w: the sequence is already in use", state.ErrStale)
	case "NEWER":
		return fmt.Errorf("%w: its fence has version %s; this program reads up to %d", state.ErrNewer, r.text(1), version)
	case "BAD":
		return fmt.Errorf("%w: the key %q in Redis %s", state.ErrCorrupt, r.text(1), r.text(2))
	}
	return errNotOurs
}

var errNotOurs = fmt.Errorf("%w: the response is not one of this store's scripts", state.ErrRefused)

// errGone is no ErrNotFound: a checkpoint that disappeared must not look like a first start.
var errGone = fmt.Errorf("%w: it disappeared from Redis: it was deleted or evicted, or the server's clock was set back", state.ErrCorrupt)

// checkpoint reads the part of a reply that has what was found, the record, and its
// epoch.
func (r reply) checkpoint() (state.Checkpoint, error) {
	switch r.text(0) {
	case "OK":
		return decode(r.text(1), r.number(2))
	case "NONE":
		return state.Checkpoint{}, state.ErrNotFound
	case "EXPIRED":
		return state.Checkpoint{}, state.ErrExpired
	}
	if err := r.refusal(); err != nil {
		return state.Checkpoint{}, err
	}
	return state.Checkpoint{}, errNotOurs
}

// isAbsence reports whether err says for certain that no checkpoint is there.
func isAbsence(err error) bool {
	return errors.Is(err, state.ErrNotFound) || errors.Is(err, state.ErrExpired)
}
