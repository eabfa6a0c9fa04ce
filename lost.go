package rigatoni

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// LostKey returns the key under which a pipeline leaves what it knew of the
// checkpoint of key: the last one, when it finds that the store has lost it; and
// where it began, when a first start was accepted. It makes a later first start of
// key refuse. It is an ordinary key; to clear a checkpoint for good, clear both.
//
// So names that begin with "@" are reserved: no stream may have one.
func LostKey(key string) string { return key + lostSuffix }

const (
	lostSuffix = "/@lost"
	// Names in the Extra of a record of LostKey: when the loss was found, and the
	// acceptance of a first start.
	extraLost     = "lost"
	extraAccepted = "accepted"
)

// isReserved reports whether a stream may not have that name.
func isReserved(stream string) bool { return strings.HasPrefix(stream, "@") || isSideKey(stream) }

// isSideKey reports whether a key is no stream's, but kept beside one.
func isSideKey(key string) bool { return strings.Contains(key, "/@") }

// leaveRecord saves a checkpoint under the LostKey of a key, with a note of why, and
// returns what the store will list.
func leaveRecord(ctx context.Context, store state.Store, key string, cp state.Checkpoint, why string, note map[string]string) (state.Entry, error) {
	doc, err := json.Marshal(note)
	if err != nil {
		return state.Entry{}, err
	}
	cp.Sequence, cp.Extra = 0, map[string]json.RawMessage{why: doc} // 0: whatever was there before
	err = await(ctx, guarded(func() error { return store.Save(ctx, LostKey(key), cp) }))
	return state.Entry{Key: LostKey(key), Checkpoint: cp}, err
}

// A LostError is the error of a checkpoint that was there and is gone from the store.
// It is an [ErrCheckpointLost].
type LostError struct {
	Key string
	// Checkpoint is the last one that is known. A first start at its ClusterTime
	// skips nothing.
	Checkpoint state.Checkpoint
	// Accept is what FirstStart.Accept must be for that, if nothing else speaks
	// against it; empty if what is known could not be left in the store.
	Accept string
	Err    error // the store's
}

func (e *LostError) Error() string {
	return fmt.Sprintf("%v: the last one that is known is of the cluster time %s, saved at %s: %v",
		ErrCheckpointLost, clock(e.Checkpoint.ClusterTime), stamp(e.Checkpoint.SavedAt), e.Err)
}

// Is makes a LostError an ErrCheckpointLost.
func (e *LostError) Is(target error) bool { return target == ErrCheckpointLost }

func (e *LostError) Unwrap() error { return e.Err }

// lostNote is the note of a record of LostKey for a checkpoint that was lost.
func lostNote(cp state.Checkpoint) map[string]string {
	note := map[string]string{"at": stamp(time.Now())}
	if hasSnapshot(cp) {
		note["copying"] = "true"
	}
	return note
}

// lostFinding is the finding of a record of LostKey.
func lostFinding(key string, e state.Entry) Finding {
	cp := e.Checkpoint
	f := Finding{Err: ErrCheckpointLost, Key: key, ClusterTime: cp.ClusterTime, SavedAt: cp.SavedAt, id: findingID(e)}
	var note struct{ At, Copying string }
	if doc, ok := cp.Extra[extraAccepted]; ok && json.Unmarshal(doc, &note) == nil {
		f.Facts = fmt.Sprintf("a first start was accepted at %s, at the cluster time %s, and nothing is left of what was saved since", note.At, clock(cp.ClusterTime))
		return f
	}
	_ = json.Unmarshal(cp.Extra[extraLost], &note) // without its time, otherwise
	f.copying = note.Copying != ""
	f.Facts = fmt.Sprintf("the last one that is known is of the cluster time %s, saved at %s; its loss was noticed at %s",
		clock(cp.ClusterTime), stamp(cp.SavedAt), cmp.Or(note.At, "an unknown time"))
	if f.copying {
		f.Facts += "; its snapshot had not ended, and is to begin again"
	}
	return f
}

// findingID is what a code stands for: a record, down to the byte, so that the code
// accepts no other.
func findingID(e state.Entry) string {
	cp := e.Checkpoint
	return fmt.Sprintf("%q %q %v %q %v", e.Key, cp.Token.Raw(), cp.ClusterTime, cp.Extra, e.LoadErr)
}
