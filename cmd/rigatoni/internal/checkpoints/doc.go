// Package checkpoints is what "rigatoni checkpoint" does: it reads, judges and moves
// the checkpoints in a store, with the word of the server that they are of.
//
// Two rules hold for everything that changes a checkpoint. It is done under a lease
// that was free, so never under a running pipeline; and no event between the old
// position and the new one is unaccounted for: it will be delivered, or again, or it
// is in a gap on record.
package checkpoints
