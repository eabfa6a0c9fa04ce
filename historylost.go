package rigatoni

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
)

// The policies of Config.OnHistoryLost.
const (
	resumeFromTime = "resume-from-time"
	resumeSnapshot = "snapshot"
	resumeNow      = "now"
)

// ErrTooManyRecoveries: the stream has lost its history, and Config.OnHistoryLost has
// helped three times within an hour already, or begun three copies of which none ended:
// something is wrong that it does not mend. It comes with an [ErrHistoryLost].
var ErrTooManyRecoveries = errors.New("the stream has lost its history too often")

// At most maxRecoveries happen within recoveryPeriod, by the gaps on record: they
// outlast the process, which a supervisor may restart.
const (
	maxRecoveries  = 3
	recoveryPeriod = time.Hour
)

// onHistoryLost begins the Policy of a gap that was recorded for a lost history.
const onHistoryLost = "on-history-lost: "

// A recovery applies Config.OnHistoryLost to one stream. Its fields are the worker's
// goroutine's.
type recovery struct {
	policies []string
	key      string
	log      *slog.Logger
	open     func(context.Context, Start) (Stream, error)

	dead resumetoken.Token // the last one that the server could not resume from; it is not tried again
	why  error
}

// helps reports whether there is a policy for the error of a stream.
func (r *recovery) helps(err error) bool {
	return len(r.policies) > 0 && errors.Is(err, ErrHistoryLost)
}

// note has a token that the server can't resume from never tried again.
func (r *recovery) note(dead resumetoken.Token, err error) { r.dead, r.why = dead, err }

// openAt opens the stream at start, or where the policies say if the server can't
// resume from its checkpoint. The gap, if there is one, is to be saved with the position
// at which the stream begins.
func (r *recovery) openAt(ctx context.Context, start Start) (Stream, *Gap, error) {
	cp := start.Checkpoint
	if cp == nil {
		stream, err := r.open(ctx, start)
		return stream, nil, err
	}
	if cp.Token != r.dead {
		stream, err := r.open(ctx, start)
		if err == nil || !r.helps(err) {
			return stream, nil, err
		}
		r.note(cp.Token, err)
	}
	if err := r.check(*cp); err != nil {
		return nil, nil, err
	}
	return r.apply(ctx, *cp)
}

// check refuses a recovery after too many.
func (r *recovery) check(cp state.Checkpoint) error {
	gaps, err := Gaps(cp)
	if err != nil {
		return err
	}
	if n := len(unhealed(gaps)); n >= maxRecoveries {
		return fmt.Errorf("%w: %d copies in a row were cut off before they ended; enlarge the oplog (replSetResizeOplog), or copy less: %w", ErrTooManyRecoveries, n, r.why)
	}
	n := 0
	for _, g := range gaps {
		if strings.HasPrefix(g.Policy, onHistoryLost) && time.Since(g.At) < recoveryPeriod {
			n++
		}
	}
	if n < maxRecoveries {
		return nil
	}
	return fmt.Errorf("%w: %d times within an hour; it is not resumed again by itself: %w", ErrTooManyRecoveries, n, r.why)
}

// apply tries the policies in their order.
func (r *recovery) apply(ctx context.Context, cp state.Checkpoint) (Stream, *Gap, error) {
	lost := r.why
	for _, policy := range r.policies {
		// A copy that was under way is not finished by skipping its events.
		again := policy == resumeSnapshot || hasSnapshot(cp)
		start := Start{Snapshot: again, SnapshotAgain: again}
		if policy == resumeFromTime {
			if start.Time = cp.ClusterTime; start.Time.IsZero() {
				lost = fmt.Errorf("%w; the checkpoint has no cluster time to resume from", lost)
				continue
			}
		}
		if again && policy != resumeSnapshot {
			policy += withSnapshot
		}
		stream, err := r.open(ctx, start)
		if errors.Is(err, ErrHistoryLost) {
			lost = fmt.Errorf("%w; %s: %w", lost, policy, err)
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		r.log.Warn("history lost; resuming as on-history-lost says", "key", r.key, "policy", policy,
			"checkpoint", timestampText(cp.ClusterTime), "cluster_time", timestampText(stream.Position().ClusterTime), "err", r.why)
		return stream, &Gap{Reason: reasonOf(r.why), Policy: onHistoryLost + policy}, nil
	}
	return nil, nil, lost
}

// reasonOf is the text of an error for a gap, which every later checkpoint carries.
func reasonOf(err error) string {
	const most = 300
	text := err.Error()
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// hasSnapshot reports whether a copy was under way.
func hasSnapshot(cp state.Checkpoint) bool { return len(cp.Extra[ExtraSnapshot]) > 0 }

// checkPolicies refuses a list of policies with one in it twice, or one that can't be
// reached.
func checkPolicies(policies []string) error {
	for i, p := range policies {
		if slices.Contains(policies[:i], p) {
			return fmt.Errorf("rigatoni: Config.OnHistoryLost has %q twice", p)
		}
		if p != resumeFromTime && i < len(policies)-1 {
			return fmt.Errorf("rigatoni: Config.OnHistoryLost has %q before %q, which would never be tried", p, policies[i+1])
		}
	}
	return nil
}
