// Package rigatoni is change data capture (CDC) for MongoDB: it reads change
// streams, delivers each event to a destination, and keeps the resume token as a
// checkpoint that is saved after delivery and never before.
//
// A pipeline reads from a [Source] (package changestream), delivers to a
// [Destination] (a [Func], a [Router], or package ndjson), and saves checkpoints
// in a state.Store (packages memstore, filestore, redisstore, or a custom one):
//
//	err := rigatoni.Run(ctx, rigatoni.Config{
//		Name:        "orders",
//		Source:      source,
//		Destination: rigatoni.Func(handle),
//		Store:       store,
//	})
//
// # Guarantees
//
// Every event after the first start is delivered at least once, through crashes
// of the process, elections and restarts of the server, and outages of the store
// and the destination. Events are delivered in the order of the stream; with
// Config.Concurrency, those of each document are. After a crash, events since the
// last checkpoint are redelivered; Config.SaveInterval bounds them. Where the
// destination takes events and checkpoint in one transaction ([Transactional]),
// each event takes effect exactly once.
//
// Nothing is skipped silently. Where the position is not certain (the checkpoint
// is damaged, expired or of another stream; the oplog has moved past it), Run
// returns an error that says what was found. It never starts at "now" instead.
//
// Run returns nil only when everything in hand is delivered and the last
// checkpoint is saved.
//
// With Config.Snapshot what exists is copied, as events between the changes
// ([Event.IsSnapshot]): each document's versions are in order, and a crash goes on
// where the checkpoint says.
//
// One pipeline at a time works on a stream, by a lease in the store. One that
// lost its lease stops delivering, and its late saves are refused.
//
// docs/guarantees.md in the repository names the test of each guarantee, and
// docs/architecture.md describes the parts.
package rigatoni
