package state

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// What can be wrong, for errors.Is.
var (
	// ErrNotFound: the key has no checkpoint, and the store is sure of it.
	ErrNotFound = errors.New("no checkpoint")
	// ErrCorrupt: something is there, and it can't be read.
	ErrCorrupt = errors.New("the stored checkpoint is damaged")
	// ErrNewer: what is there was written by a later version of the store.
	ErrNewer = errors.New("the stored checkpoint is of a newer version than this program reads")
	// ErrExpired: there was a checkpoint, and its time to live ran out.
	ErrExpired = errors.New("the checkpoint has expired")
	// ErrUnavailable: the store can't tell or can't do it now; it may later.
	ErrUnavailable = errors.New("the store is unavailable")
	// ErrRefused: the store's server, or the operating system, says no, and will
	// until a person changes something: a password, a right, a setting, a full
	// memory or disk.
	ErrRefused = errors.New("refused")
	// ErrFenced: the lease belongs to somebody else by now. Nothing was written, but
	// perhaps by an attempt of the same call before that, of which the store never heard
	// the answer and which it repeated: the new owner then went on from there.
	ErrFenced = errors.New("fenced off: the lease is no longer held")
	// ErrStale: a later checkpoint has been accepted already, and stays. Nothing was
	// written, but perhaps before that one, as with ErrFenced.
	ErrStale = errors.New("a later checkpoint has been saved already")
	// ErrLeaseHeld: somebody else holds the lease. See [HeldError].
	ErrLeaseHeld = errors.New("the lease is held")
	// ErrClosed: the store has been closed.
	ErrClosed = errors.New("the store is closed")
	// ErrInvalid: the call itself is wrong, whatever the store holds.
	ErrInvalid = errors.New("invalid argument")
)

// An Error is what every store returns: the operation, the store and the key,
// around a sentinel of this package and what caused it. Neither credentials nor
// the contents of a token are ever in its message.
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

// Retryable tells whether the same call may succeed later without anybody doing
// anything.
func (e *Error) Retryable() bool { return errors.Is(e.Err, ErrUnavailable) }

// A HeldError says who holds a lease. It is an [ErrLeaseHeld].
type HeldError struct {
	Owner string
	// Until is when the lease runs out if it is not renewed, by this machine's
	// clock as near as the store can tell; zero if it ends with its owner's
	// process, whenever that is.
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
