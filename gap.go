package rigatoni

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A Gap is a stretch of a stream whose events may not have been delivered, because
// somebody decided to continue without them. It is saved in the same write as the
// checkpoint that continues after it, and stays there: see [Gaps].
type Gap struct {
	// From and To are the cluster times between which events may be missing, both
	// included: those of the checkpoint before and of the position after. From is
	// zero if the checkpoint before is unknown.
	From, To bson.Timestamp
	// Reason is why: what the server or the store said, or what changed.
	Reason string
	// Policy is the decision: the setting, flag or command that made it.
	Policy string
	// At is when the gap was recorded, to the millisecond.
	At time.Time
	// Healed is when a copy of everything, begun after the gap, had ended: from then on
	// the destination has every document as it is now, whatever the gap skipped. Zero
	// if there was no such copy, or it has not ended.
	Healed time.Time
	// Remains is what the copy could not heal, as a sentence; empty while Healed is zero.
	Remains string
}

// maxGaps is how many gaps a checkpoint keeps, the last ones: it is written once a
// second.
const maxGaps = 100

// extraGaps is the name in state.Checkpoint.Extra of the gaps.
const extraGaps = "gaps"

// Gaps returns the gaps that a checkpoint has on record, the oldest first: the last
// 100. Events outside them, and up to the checkpoint, have been delivered.
func Gaps(cp state.Checkpoint) ([]Gap, error) {
	doc, ok := cp.Extra[extraGaps]
	if !ok {
		return nil, nil
	}
	var gaps []Gap
	if err := json.Unmarshal(doc, &gaps); err != nil {
		return nil, fmt.Errorf("rigatoni: the gaps on record in the checkpoint can't be read: %w", err)
	}
	return gaps, nil
}

// WithGap returns the checkpoint with one more gap on record. It is for programs
// that move a checkpoint by hand; the pipeline records its own.
func WithGap(cp state.Checkpoint, g Gap) (state.Checkpoint, error) {
	gaps, err := Gaps(cp)
	if err != nil {
		return cp, err
	}
	gaps = append(gaps, g)
	doc, err := json.Marshal(gaps[max(0, len(gaps)-maxGaps):])
	if err != nil {
		return cp, fmt.Errorf("rigatoni: a gap can't be recorded: %w", err)
	}
	cp.Extra = maps.Clone(cp.Extra)
	if cp.Extra == nil {
		cp.Extra = map[string]json.RawMessage{}
	}
	cp.Extra[extraGaps] = doc
	return cp, nil
}

// withSnapshot ends the Policy of a gap after which everything is copied.
const withSnapshot = ": snapshot"

// asksForCopy reports whether everything is copied because of the gap.
func (g Gap) asksForCopy() bool { return strings.HasSuffix(g.Policy, withSnapshot) }

// unhealed are the last gaps on record, as far back as each asks for a copy that has not
// ended. One after which nothing is copied ends them: whoever moved the checkpoint there
// gave up the copy.
func unhealed(gaps []Gap) []Gap {
	n := len(gaps)
	for n > 0 && gaps[n-1].asksForCopy() && gaps[n-1].Healed.IsZero() {
		n--
	}
	return gaps[n:]
}

// heal records that the copy has ended that the last gaps of a checkpoint ask for.
func heal(cp *state.Checkpoint, remains string) error {
	gaps, err := Gaps(*cp)
	if err != nil {
		return err
	}
	healed := unhealed(gaps)
	if len(healed) == 0 {
		return nil
	}
	for i := range healed {
		healed[i].Healed, healed[i].Remains = cp.SavedAt, remains
	}
	doc, err := json.Marshal(gaps)
	if err != nil {
		return fmt.Errorf("rigatoni: that a gap is healed can't be recorded: %w", err)
	}
	cp.Extra = maps.Clone(cp.Extra)
	cp.Extra[extraGaps] = doc
	return nil
}

// What a copy can't heal of a gap.
const (
	remainsOfSweeper = "collections that were dropped in the meantime may still be in the destination"
	remainsOfOthers  = "documents that were deleted in the meantime may still be in the destination, and the versions in between were not delivered"
)

// gapJSON is how a Gap is written: cluster times as "seconds.increment", which is
// how log lines have them and what the command takes.
type gapJSON struct {
	From    string     `json:"from,omitempty"`
	To      string     `json:"to"`
	Reason  string     `json:"reason"`
	Policy  string     `json:"policy"`
	At      time.Time  `json:"at"`
	Healed  *time.Time `json:"healed,omitempty"`
	Remains string     `json:"remains,omitempty"`
}

// MarshalJSON writes cluster times as "seconds.increment".
func (g Gap) MarshalJSON() ([]byte, error) {
	j := gapJSON{To: timestampText(g.To), Reason: g.Reason, Policy: g.Policy, At: g.At.UTC().Truncate(time.Millisecond), Remains: g.Remains}
	if !g.Healed.IsZero() {
		healed := g.Healed.UTC().Truncate(time.Millisecond)
		j.Healed = &healed
	}
	if !g.From.IsZero() {
		j.From = timestampText(g.From)
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (g *Gap) UnmarshalJSON(doc []byte) error {
	var j gapJSON
	if err := json.Unmarshal(doc, &j); err != nil {
		return err
	}
	from, errFrom := parseTimestamp(j.From)
	to, errTo := parseTimestamp(j.To)
	if j.From == "" {
		errFrom = nil
	}
	*g = Gap{From: from, To: to, Reason: j.Reason, Policy: j.Policy, At: j.At, Remains: j.Remains}
	if j.Healed != nil {
		g.Healed = *j.Healed
	}
	return errors.Join(errFrom, errTo)
}

// parseTimestamp reads what timestampText writes.
func parseTimestamp(text string) (bson.Timestamp, error) {
	seconds, increment, ok := strings.Cut(text, ".")
	t, errT := strconv.ParseUint(seconds, 10, 32)
	i, errI := strconv.ParseUint(increment, 10, 32)
	if !ok || errT != nil || errI != nil {
		return bson.Timestamp{}, fmt.Errorf("%q is no cluster time", text)
	}
	return bson.Timestamp{T: uint32(t), I: uint32(i)}, nil
}
