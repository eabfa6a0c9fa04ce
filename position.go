package rigatoni

import (
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A Position is how far a stream has been read. It becomes a checkpoint only by
// delivery, which is why it is a type of its own.
type Position struct {
	// Token is the resume token of the last event read, or a later one that the
	// server gave with an empty batch.
	Token resumetoken.Token
	// StartAfter: Token is that of an invalidate event, with which only
	// startAfter can open the stream.
	StartAfter bool
	// ClusterTime is the time of the last event or, where the server gave a later
	// token with an empty batch, of that token; zero if it is not known.
	ClusterTime bson.Timestamp
	// Snapshot is, as JSON, how far the copy of a snapshot has got that is under way;
	// empty if there is none. Its format is the source's. It is saved as the
	// checkpoint's Extra[[ExtraSnapshot]], in the same write as the token, and the
	// source finds it there in [Start].Checkpoint.
	Snapshot string
}

// ExtraSnapshot is the name in state.Checkpoint.Extra of Position.Snapshot.
const ExtraSnapshot = "snapshot"

// A Positioner computes the position after an event that the event itself does not
// have in full: see [Event.WithPositioner]. It is asked for few of the events, those
// that end a transaction or are the last before a save, and by several goroutines at
// once: it is to be cheap to make and may be slow to ask. The event is as the source
// returned it, without its positioner, so that PositionAfter of it is what the event
// says.
//
// The position after an event covers the event, all that came before it, and nothing
// that comes after.
type Positioner interface {
	PositionAfter(e Event) (Position, error)
}

// delivered makes the position a checkpoint. The checkpointer calls it once all
// up to the position has been delivered, and nothing else may.
func (p Position) delivered() state.Checkpoint {
	return state.Checkpoint{Token: p.Token, StartAfter: p.StartAfter, ClusterTime: p.ClusterTime}
}
