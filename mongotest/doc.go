// Package mongotest is a small MongoDB-compatible server for tests of
// change-stream code. It runs in the process of the test, on a loopback port,
// starts in a millisecond and ends with the test; any number can run at once. To
// the official Go driver it is a replica set of one node.
//
//	func TestMyPipeline(t *testing.T) {
//		server := mongotest.Start(t)
//		client, err := mongo.Connect(options.Client().ApplyURI(server.URI()))
//		...
//		server.DropConnections() // and see what your code does
//	}
//
// Close the server before the client, and disconnect the client with a context
// that is canceled already. While the server runs, the driver (2.10) sometimes
// waits ten seconds (or its heartbeat interval, if that is shorter) for the reply
// to its monitor, whatever Disconnect's context says; after the server is closed,
// it waits for its server selection timeout or until that context is done.
//
// MongoDB 6.0.27 is the reference. Scripts of commands are run on both servers, and
// whole replies are compared, including error messages; those of the real server
// are recorded in testdata/behaviour. Random updates are compared as well.
//
// # What it supports
//
//   - hello, isMaster, ping, buildInfo, getParameter (of enableTestCommands),
//     serverStatus, getCmdLineOpts, replSetGetConfig, endSessions, killSessions,
//     killAllSessions, getMore, killCursors.
//   - insert, update (by operators, replacement or pipeline; multi, upsert),
//     delete, find, findAndModify, count, distinct, and aggregate with $match,
//     $project, $addFields, $set, $unset, $replaceRoot, $replaceWith, $sort, $skip,
//     $limit, $count, $sample, $collStats, and the $group with which drivers count
//     documents. Retryable writes are executed once.
//   - Reads of the past: the read concern snapshot, with atClusterTime, for find,
//     aggregate and distinct, with the server's conditions (72, 239, 246). find has
//     min and max with a hint of the index of _id.
//   - Query operators: the comparisons, $in, $nin, $exists, $type, $not, $and, $or,
//     $nor, $all, $size, $elemMatch, $regex, $mod. Update operators: $set,
//     $setOnInsert, $unset, $inc, $mul, $min, $max, $rename, $currentDate, $push
//     ($each, $position, $slice), $addToSet, $pull, $pullAll, $pop.
//   - create and collMod with changeStreamPreAndPostImages, drop, dropDatabase,
//     renameCollection, listCollections, listDatabases, createIndexes (unique ones
//     are enforced), dropIndexes, listIndexes. Views, capped and time-series
//     collections can be created, listed and dropped, for the sake of the events and
//     of code that must recognise them.
//   - Transactions (commitTransaction, abortTransaction), whose events share one
//     clusterTime.
//   - Change streams of a collection, a database and the deployment: resumeAfter,
//     startAfter, startAtOperationTime, fullDocument and fullDocumentBeforeChange
//     in all their forms, showExpandedEvents (create, createIndexes, dropIndexes,
//     modify, and further fields in other events), $match, $project, $addFields
//     and the other stages above after it, $changeStreamSplitLargeEvent as the last
//     stage, tokens in the server's own formats, post-batch resume tokens, the
//     errors 260, 280, 286 and 136 with their labels, 47 for an image that is
//     required and missing. find on local.oplog.rs shows how far back the history
//     goes.
//   - The fail points failCommand and failGetMoreAfterCursorCheckout
//     (configureFailPoint), replSetStepDown, and from Go the methods of [Server].
//
// It reports version 6.0.27, and no option changes that, because the behaviour of
// newer versions could not be compared. Of what newer servers do differently in
// change streams it supports only the tokens (see [Options]), which 6.0.27 also
// returns on request; disambiguatedPaths (since 6.1) is not supported.
//
// # What it does not support
//
// Whatever is not supported is refused by name, with the server's own code: an
// unknown command with CommandNotFound (59), an unknown field, stage or operator
// with the code for it, and one that only a real server supports with
// NotImplemented (238). Among these:
//
//   - resuming from a token of MongoDB 4.0 or earlier, showSystemEvents and the
//     other internal options of $changeStream, explain;
//   - collMod with anything but changeStreamPreAndPostImages (so the older
//     recordPreImages);
//   - arrayFilters and other positional updates, $bit, arithmetic with decimals,
//     $push with $sort;
//   - $expr, $where, $text, geometry, collations, expressions other than
//     literals, field paths, documents and arrays of them;
//   - reading through views, modifying them; writes to capped and time-series
//     collections; clustered collections, validators, indexes that expire documents,
//     partial, text and other special indexes;
//   - users, TLS, compression, atClusterTime in transactions.
//
// In some ways it differs from a real server without an error:
//
//   - All data is in memory, under one lock. The capacity of the oplog is a number
//     of entries, not of bytes, and it is also how far back snapshots can be read (a
//     real server keeps five minutes). Hints of other indexes than that of _id and
//     most other options for performance and durability are accepted and ignored.
//   - A cursor on a collection returns what was there when it was opened.
//   - No write waits for a transaction: a write outside of it to a document that it
//     has changed succeeds, and the transaction fails when it commits. A collection
//     that a transaction creates is visible at once.
//   - Images are kept as long as their oplog entry; nothing else removes them, and
//     they can't be read from config.system.preimages. A stream that requires
//     images skips an event without them if a $match that doesn't depend on images
//     filters it out, as on a real server; here this also includes a $match on a
//     field that is computed from an image.
//   - Regular expressions have Go's syntax; others are refused.
//   - A resume token must end where its contents do: a real server ignores bytes
//     after that.
//   - A field that one stage of a pipeline removes and a later one sets again moves
//     to the end of the document; on a real server it keeps its position.
//   - In the pipeline of a view only the names of the stages are checked, and views
//     may refer to each other in a cycle.
//   - $elemMatch with operators does not search arrays within an array.
//
// The query and update languages are in internal/query, about 2,500 lines, because
// no library fits: FerretDB's engine is internal (and since version 2 it is
// PostgreSQL's), lungo depends on version 1 of the driver, and neither reports what
// an update changed, which change events consist of.
package mongotest
