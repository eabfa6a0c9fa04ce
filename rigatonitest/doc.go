// Package rigatonitest has what unit tests of pipelines need, without a server:
// change events ([Insert], [Update], [Delete], ...), a [Source] that returns them,
// and a [Destination] that records what is delivered. A [Database] is a
// transactional destination in memory, whose transactions can be made to fail at any
// step. Package destinationtest is a suite for destinations of your own.
//
// With a source and memstore.New() a test runs the whole pipeline around the
// function or the destination under test:
//
//	source := rigatonitest.NewSource(
//		rigatonitest.Insert("shop.orders", bson.D{{"_id", 1}, {"total", 5}}),
//		rigatonitest.Delete("shop.orders", 1),
//	)
//	source.End()
//	err := rigatoni.Run(ctx, rigatoni.Config{
//		Name: "test", Source: source, Destination: rigatoni.Func(countOrders), Store: memstore.New(),
//	})
//	if !errors.Is(err, rigatonitest.ErrEnd) {
//		t.Fatal(err)
//	}
//
// A function can also be called with an event directly.
//
// Nothing here sleeps, polls or does I/O: a test of timing (retries, batches by age,
// idle saves) can run in a testing/synctest bubble, where time costs nothing. Create
// the source and the destination inside the bubble.
//
// The events have the fields of MongoDB 6.0 in its order, and resume tokens in its format.
// A source copies documents where Config.Snapshot says so: see [Log.Populate]. Nothing else
// of a server is simulated: there are no filters, transactions or split events.
// Test a source's options against a real server; subpackage mongod starts one.
package rigatonitest
