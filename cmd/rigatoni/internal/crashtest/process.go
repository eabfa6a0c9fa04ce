package crashtest

import (
	"time"

	"github.com/rigatoni-etl/rigatoni/state"
)

// A Process is one process of the pipeline.
type Process struct {
	N       int // 1 for the first
	Started time.Time
	Ended   time.Time // zero while it runs
	Killed  bool      // ended by us, with SIGKILL
	Exit    string    // how it ended: "SIGKILL", "exit status 0"

	// Checkpoints are those in the store when it was started, by stream.
	Checkpoints map[string]state.Checkpoint
	// Resumed counts the events that those checkpoints cover, Before those that had
	// been delivered when it was started, and Reached those by its end (or by now).
	// All count each event once.
	Resumed, Before, Reached int
	// Lines is how many events it delivered, Again how many of them were repeats.
	Lines, Again int
	// Streaming reports whether its streams were open.
	Streaming bool
}
