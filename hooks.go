package rigatoni

import "time"

// Hooks are functions that the pipeline calls as it works, for metrics and tests.
// Any may be nil. They are called by the goroutines that do the work, several at
// once, so they must be quick and safe for concurrent use.
type Hooks struct {
	// Delivered is called after each attempt to deliver.
	Delivered func(Delivery)
	// Saved is called after each attempt to save a checkpoint.
	Saved func(Save)
	// PhaseChanged is called when a stream begins another phase.
	PhaseChanged func(key string, p Phase)
	// Refused is called for each dead letter, after it was written.
	Refused func(DeadLetter)
}

// A Delivery is an attempt to deliver a batch.
type Delivery struct {
	Key     string
	Events  int // delivered
	Bytes   int // their size, as BSON
	Attempt int
	Took    time.Duration
	Err     error // nil: the whole batch is delivered
}

// A Save is an attempt to save a checkpoint.
type Save struct {
	Key    string
	Events uint64 // delivered since the last one
	Took   time.Duration
	Err    error
}
