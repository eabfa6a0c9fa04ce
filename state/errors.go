package state

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// The reasons for which a call fails, for [errors.Is].
var (
	// ErrNotFound: the key certainly has no checkpoint.
	ErrNotFound = errors.New("no checkpoint")
	// ErrCorrupt: the key has a checkpoint that can't be read.
	ErrCorrupt = errors.New("the stored checkpoint is damaged")
	// ErrNewer: a later version of the store wrote the checkpoint.
	ErrNewer = errors.New("the stored checkpoint has a newer version than this program reads")
	// ErrExpired: the checkpoint's time to live has expired.
	ErrExpired = errors.New("the checkpoint has expired")
	// ErrUnavailable: the store can't answer now; a later attempt may succeed.
	ErrUnavailable = errors.New("the store is unavailable")
	// ErrRefused: the store's server or the operating system refuses the call, and
	// requires manual intervention: a password, a right, a setting, a full memory
	// or disk.
	ErrRefused = errors.New("refused")
	// ErrFenced: the lease is no longer held. The call wrote nothing, unless an
	// earlier attempt of it, whose response was lost, had written before the lease
	// ended; the new owner then resumed from that.
	ErrFenced = errors.New("fenced off: the lease is no longer held")
	// ErrLeaseExpired: the lease was not renewed in time, because the store was away
	// or the process suspended. Each such error is an ErrFenced too. Unlike
	// other reasons for one, it doesn't mean that somebody else has the lease.
	ErrLeaseExpired = errors.New("it was not renewed")
	// ErrStale: a later checkpoint has been accepted, and is kept. As with
	// ErrFenced, an earlier attempt may have written before that one.
	ErrStale = errors.New("a later checkpoint has been saved already")
	// ErrLeaseHeld: another owner holds the lease. See [HeldError].
	ErrLeaseHeld = errors.New("the lease is held")
	// ErrReplaced: what the store keeps its checkpoints in was removed or replaced
	// since it was opened. Each such error is an ErrUnavailable too: it may be put
	// back. See [Reopener].
	ErrReplaced = errors.New("removed or replaced since it was opened")
	// ErrClosed: the store has been closed.
	ErrClosed = errors.New("the store is closed")
	// ErrInvalid: the arguments are invalid, whatever the store holds.
	ErrInvalid = errors.New("invalid argument")
)

// An Error is the error of every store: the operation, the store and the key,
// wrapped around a sentinel of this package and the cause. Its message never has
// credentials or the contents of a token.
type Error struct {
	Op    string // "save", "load", "clear", "acquire", …
	Store string // "filestore", "redisstore", …
	Key   string // "" for an operation on no key in particular
	Err   error
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Store + ": " + e.Op)
	if e.Key != "" {
		// Keys are the user's, of any length and contents.
		key := e.Key
		if len(key) > 80 {
			key = strings.ToValidUTF8(key[:80], "") + "…"
		}
		fmt.Fprintf(&b, " %q", key)
	}
	b.WriteString(": " + e.Err.Error())
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Retryable reports whether the same call may succeed later without manual
// intervention.
func (e *Error) Retryable() bool { return errors.Is(e.Err, ErrUnavailable) }

// A HeldError names the owner of a lease. It is an [ErrLeaseHeld].
type HeldError struct {
	Owner string
	// Until is the time at which the lease expires if it is not renewed, by this
	// machine's clock, as precisely as the store can tell. It is zero if the lease
	// ends with its owner's process.
	Until time.Time
}

func (e *HeldError) Error() string {
	if e.Until.IsZero() {
		return fmt.Sprintf("the lease is held by %q", e.Owner)
	}
	return fmt.Sprintf("the lease is held by %q until %s", e.Owner, e.Until.UTC().Format("2006-01-02T15:04:05.000Z"))
}

// Is makes a HeldError an ErrLeaseHeld.
func (e *HeldError) Is(target error) bool { return target == ErrLeaseHeld }
