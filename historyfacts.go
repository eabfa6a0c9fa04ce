package rigatoni

import (
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A HistoryLostError is an [ErrHistoryLost] with the facts that a decision needs.
type HistoryLostError struct {
	Key string
	// ClusterTime is the time of the checkpoint, and SavedAt when it was saved. At a
	// first start ClusterTime is where it was to begin, and SavedAt is zero.
	ClusterTime bson.Timestamp
	SavedAt     time.Time
	// Oldest is the time of the oldest event that the server has; zero if unknown.
	Oldest bson.Timestamp
	Err    error // the source's
}

func (e *HistoryLostError) Error() string {
	var facts []string
	if !e.SavedAt.IsZero() {
		facts = append(facts, fmt.Sprintf("the checkpoint is of the cluster time %s, saved at %s", clock(e.ClusterTime), stamp(e.SavedAt)))
	}
	if !e.Oldest.IsZero() {
		facts = append(facts, "the server has events since "+clock(e.Oldest))
	}
	if facts == nil {
		return e.Err.Error()
	}
	return e.Err.Error() + " (" + strings.Join(facts, "; ") + ")"
}

// Unwrap returns the source's error.
func (e *HistoryLostError) Unwrap() error { return e.Err }
