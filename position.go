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

// isAt reports whether p is, by token and snapshot, the position q.
func (p Position) isAt(q Position) bool { return p.Token == q.Token && p.Snapshot == q.Snapshot }

// delivered makes the position a checkpoint. The checkpointer calls it once all
// up to the position has been delivered, and nothing else may.
func (p Position) delivered() state.Checkpoint {
	return state.Checkpoint{Token: p.Token, StartAfter: p.StartAfter, ClusterTime: p.ClusterTime}
}
