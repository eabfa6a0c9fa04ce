// Package query is MongoDB's query and update language, as far as mongotest has
// it: filters, projections, sort orders, updates by operators and by pipelines,
// and the stages of an aggregation that handle documents one by one.
//
// Each part of the language is compiled first ([CompileFilter], [CompileUpdate]
// and so on), which reports what is wrong with it, and applied to documents then.
// What is compiled can be used by several goroutines at once. Errors are of type
// *cmderr.Error, with the code and the words of a MongoDB 6.0.27 server; what
// that server has and this package does not is refused with
// cmderr.NotImplemented.
//
// An [Update] also returns the [Change] that it makes, in the form and the order
// in which the server writes it to its oplog, because that is what the
// updateDescription of a change event consists of.
package query
