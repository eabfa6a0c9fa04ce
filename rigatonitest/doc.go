// Package rigatonitest gives unit tests what a pipeline needs, without a server:
// change events ([Insert], [Update], [Delete], ...), a [Source] that gives them,
// and a [Destination] that records what is delivered.
//
// With a source and memstore.New() a test runs the whole pipeline around the
// function or the destination that it tests:
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
// Nothing here sleeps, polls or does I/O: a test that is about time (retries,
// batches by age, idle saves) runs in a testing/synctest bubble, in no time. Make
// the source and the destination inside it.
//
// The events have the fields of MongoDB 6.0 in its order, and resume tokens in its format.
// What a server does beyond that is not simulated: an update is not applied to a
// document, filters are not known, transactions and split events are not made.
// Test a source's options against a real server; subpackage mongod starts one.
package rigatonitest
