// Package rigatoni reads MongoDB change streams and never loses its place.
//
// A pipeline reads events from a [Source] (package changestream), delivers them
// to a [Destination] (a [Func], or package ndjson), and keeps its place in a
// state.Store (packages memstore, filestore and redisstore), saving it after
// delivery and never before:
//
//	err := rigatoni.Run(ctx, rigatoni.Config{
//		Name:        "orders",
//		Source:      source,
//		Destination: rigatoni.Func(handle),
//		Store:       store,
//	})
//
// # What is promised
//
// Every event after the first start is delivered at least once, in the server's
// order, through crashes of the process at any point, restarts and elections of
// the server, and outages of the store and the destination. After a crash, what
// was delivered since the last save comes again, and nothing else: that is what
// Config.SaveInterval bounds. Delivery is effectively once only where the
// destination makes it so.
//
// Nothing is ever skipped. Where the place can't be told for certain (a damaged
// or expired checkpoint, an oplog that has moved past it, a stream that is
// another than the checkpoint's) Run fails and says what it found; it never
// starts at "now" instead.
//
// Where the store can lease, one pipeline at a time works on a stream, and one
// that was presumed dead is refused when it comes back and tries to save. It
// stops delivering when its lease ends by its own clock, so that two deliver at
// once only if a Deliver that had begun before goes on after its context ended.
package rigatoni
