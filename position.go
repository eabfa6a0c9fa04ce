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
}

// delivered makes the position a checkpoint. The checkpointer calls it once all
// up to the position has been delivered, and nothing else may.
func (p Position) delivered() state.Checkpoint {
	return state.Checkpoint{Token: p.Token, StartAfter: p.StartAfter, ClusterTime: p.ClusterTime}
}
