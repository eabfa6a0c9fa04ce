package rigatoni

import (
	"context"
	"time"
)

// DeadLetters keeps the events that were refused, so that the pipeline can go on
// without them. Package ndjson has one that writes files.
//
// When Put returns nil, the letter is durable. The same event may be put twice,
// after a crash. Put may be called concurrently.
type DeadLetters interface {
	Put(ctx context.Context, l DeadLetter) error
}

// A DeadLetter is an event that was refused.
type DeadLetter struct {
	Key, Stream string    // of the checkpoint, and of the stream
	Event       Event     // as the server sent it
	Position    Position  // after the event
	Err         error     // of the last attempt
	Attempts    int       // how often its delivery was tried, in a batch or alone
	At          time.Time // when it was refused
}
