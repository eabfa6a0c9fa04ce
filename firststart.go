package rigatoni

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A FirstStart is what happens where a stream has no checkpoint. Where it has
// one, FirstStart is ignored.
type FirstStart struct {
	// Time is the cluster time of the first event; zero for now. It is no consent
	// to a first start that is refused.
	Time bson.Timestamp
	// None refuses every first start: for a pipeline that has had its first start,
	// so that a store that is empty, or the wrong one, stops it.
	None bool
	// Accept is the Accept code of a [FirstStartError]. It accepts what the error
	// found, and nothing that comes later.
	Accept string `name:"accept-first-start" help:"begin although something speaks against a first start; the code that the refusal prints" arg:"CODE" once:"true" group:"For one start"`
}

// What speaks against a first start, for errors.Is. See [FirstStartError]; the
// others are [ErrCheckpointLost] and [ErrOutputExists].
var (
	// ErrOtherCheckpoint: the store has a checkpoint of the same events under
	// another name. It looks as if the pipeline, or a stream, had been renamed.
	ErrOtherCheckpoint = errors.New("the store has a checkpoint of these events under another name")
	// ErrNoFirstStart: FirstStart.None refuses every first start.
	ErrNoFirstStart = errors.New("the configuration allows no first start")
)

// A FirstStartError is how a pipeline refuses a first start: a stream has no
// checkpoint, and something says that it was delivered before. To begin at now
// would skip what was written since.
type FirstStartError struct {
	// Key is the key that has no checkpoint.
	Key string
	// Found is what speaks against a first start.
	Found []Finding
	// Accept is what FirstStart.Accept must be to start all the same. It stands for
	// what was found, so that it can't accept a later case. Empty: nothing does.
	Accept string
}

// A Finding is one thing that speaks against a first start.
type Finding struct {
	// Err is [ErrOtherCheckpoint], [ErrCheckpointLost], [ErrNoFirstStart], or the
	// destination's [OutputError].
	Err error
	// Key is that of the checkpoint that was found; empty for output.
	Key string
	// ClusterTime is the time up to which events were delivered, and SavedAt when
	// that was saved; zero if unknown. A start at ClusterTime skips nothing.
	ClusterTime bson.Timestamp
	SavedAt     time.Time
	// Facts is what was found, as a sentence.
	Facts string

	id      string // what a code that accepts the finding stands for
	copying bool   // a copy was under way, which the stream has to do
}

func isCopying(f Finding) bool { return f.copying }

func (e *FirstStartError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q has no checkpoint, and a first start is refused: ", e.Key)
	for i, f := range e.Found {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(f.String())
	}
	if e.Accept != "" {
		b.WriteString("; the code that accepts this is " + e.Accept)
	}
	return b.String()
}

// String is the finding as a sentence.
func (f Finding) String() string {
	if f.Facts == "" {
		return f.Err.Error()
	}
	return f.Err.Error() + ": " + f.Facts
}

// Unwrap returns what was found.
func (e *FirstStartError) Unwrap() []error {
	var all []error
	for _, f := range e.Found {
		all = append(all, f.Err)
	}
	return all
}

// Since is the cluster time at which a start skips nothing of what was found; zero
// if that is unknown.
func (e *FirstStartError) Since() bson.Timestamp { return since(e.Found) }

func since(found []Finding) (at bson.Timestamp) {
	for _, f := range found {
		if f.ClusterTime.IsZero() {
			return bson.Timestamp{}
		}
		if at.IsZero() || f.ClusterTime.Before(at) {
			at = f.ClusterTime
		}
	}
	return at
}

// An origin is where a first start begins, and what was accepted for it.
type origin struct {
	seed     bson.Timestamp // where other checkpoints of the pipeline say; zero: as configured
	accepted []Finding
	copying  bool // a copy was under way in what the stream continues
}

// skipped is the gap that a start leaves after what was accepted, if there may be one.
func (o origin) skipped(at Start) (Gap, bool) {
	start := at.Time
	since := since(o.accepted)
	if len(o.accepted) == 0 || !start.IsZero() && !since.IsZero() && !start.After(since) {
		return Gap{}, false
	}
	var reasons []string
	for _, f := range o.accepted {
		reasons = append(reasons, f.String())
	}
	g := Gap{From: since, Reason: "a first start was accepted: " + strings.Join(reasons, "; "), Policy: "accept-first-start"}
	if at.Snapshot {
		g.Policy += withSnapshot
	}
	return g, true
}

// accepted reports whether FirstStart.Accept has a code.
func (f FirstStart) accepted(code string) bool {
	return code != "" && slices.Contains(strings.Split(f.Accept, ","), code)
}

// with is what FirstStart.Accept is to be, to accept a further code.
func (f FirstStart) with(code string) string {
	if f.Accept == "" {
		return code
	}
	return f.Accept + "," + code
}

// acceptCode is the code of findings about a key.
func acceptCode(key string, found []Finding) string {
	h := sha256.New()
	_, _ = io.WriteString(h, key)
	for _, f := range found {
		fmt.Fprintf(h, "\n%q %q", f.Key, f.id)
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// outputFinding is the finding of a destination that has output; err is its error.
func outputFinding(err error, e *OutputError) Finding {
	return Finding{Err: err, ClusterTime: e.Since, id: cmp.Or(e.Accept, e.Facts)}
}

// clock formats a cluster time for people.
func clock(t bson.Timestamp) string {
	if t.IsZero() {
		return "an unknown time"
	}
	return stamp(time.Unix(int64(t.T), 0))
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "an unknown time"
	}
	return t.UTC().Format(time.RFC3339)
}
