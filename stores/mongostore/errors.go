package mongostore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni/internal/mongorights"
	"github.com/rigatoni-etl/rigatoni/state"
)

// waits are the codes of a server that is starting, electing, shutting down or
// overloaded, or has no majority: another attempt may succeed.
var waits = []int{
	6, 7, 24, 50, 64, 89, 91, 94, 112, 133, 134, 175, 189, 202, 216, 222, 262, 290, 317, 384, 9001, 10107, 11600, 11601, 11602, 13388, 13435, 13436,
	100, // fewer nodes than the write concern asks for: those that are away may come back
}

// sentinels are the errors that need no explanation.
var sentinels = []error{
	state.ErrCorrupt, state.ErrNewer, state.ErrRefused, state.ErrFenced, state.ErrStale, state.ErrLeaseHeld, state.ErrClosed, state.ErrInvalid, state.ErrNotFound, state.ErrUnavailable,
}

// explain returns the error that a call ends with for err, which is one of the driver's
// or one of package state.
func (s *Store) explain(ctx context.Context, err error) error {
	if err == nil || slices.ContainsFunc(sentinels, func(e error) bool { return errors.Is(err, e) }) {
		return err
	}
	var answer mongo.ServerError
	switch {
	case s.closed.Load(), errors.Is(err, mongo.ErrClientDisconnected):
		return fmt.Errorf("%w: %w", state.ErrClosed, reason{err})
	case unauthorized(err):
		if lacks := s.lacking(err); lacks != nil {
			return fmt.Errorf("%w: %w", lacks, reason{err})
		}
		return fmt.Errorf("%w: the user, the password or a right is wrong: %w", state.ErrRefused, reason{err})
	case ctx.Err() != nil:
		return fmt.Errorf("%w: no response from %s in time: %w (%w)", state.ErrUnavailable, s.name, ctx.Err(), reason{err})
	case !errors.As(err, &answer), mongo.IsNetworkError(err), mongo.IsTimeout(err),
		answer.HasErrorLabel("RetryableWriteError"), slices.ContainsFunc(waits, answer.HasErrorCode):
		return fmt.Errorf("%w: %s: %w", state.ErrUnavailable, s.name, reason{err})
	}
	return fmt.Errorf("%w: %w", state.ErrRefused, reason{err})
}

// lacking names the privileges that the user lacks, where the server has refused one who has
// logged in. (Not in the context of the call, which may have ended, or be a transaction's.)
func (s *Store) lacking(err error) error {
	if answer := mongo.ServerError(nil); !errors.As(err, &answer) || !answer.HasErrorCode(13) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.opts.CallTimeout)
	defer cancel()
	lacks := s.checkRights(ctx)
	if !errors.As(lacks, new(*mongorights.Error)) {
		return nil
	}
	return lacks
}

// unauthorized reports whether a server refuses the user. The driver takes a failed
// login for an error of the network.
func unauthorized(err error) bool {
	var answer mongo.ServerError
	if errors.As(err, &answer) && slices.ContainsFunc([]int{13, 18, 8000}, answer.HasErrorCode) {
		return true
	}
	text := err.Error()
	return strings.Contains(text, "auth error") || strings.Contains(text, "AuthenticationFailed")
}

// A reason is an error of the driver, whose text has no documents: a server quotes them,
// in braces, in some of its messages. Of the topology, which the driver prints if it finds
// no primary, there is the first server's error.
type reason struct{ err error }

const maxReason = 300

func (r reason) Error() string {
	text := r.err.Error()
	if before, topology, found := strings.Cut(text, ", current topology: "); found {
		text = before
		if _, last, found := strings.Cut(topology, "Last error: "); found {
			last, _, _ = strings.Cut(last, " }")
			text += ": " + last
		}
	}
	text, _, cut := strings.Cut(text, "{")
	if len(text) > maxReason {
		text, cut = strings.ToValidUTF8(text[:maxReason], ""), true
	}
	if cut {
		text += "…"
	}
	return text
}

func (r reason) Unwrap() error { return r.err }
