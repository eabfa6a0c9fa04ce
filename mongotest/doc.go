// Package mongotest is a small MongoDB-compatible server for tests of
// change-stream code: in process, on a loopback port, ready in a millisecond,
// gone with the test, and as many at once as you like. The official Go driver
// takes it for a replica set of one node.
//
//	func TestMyPipeline(t *testing.T) {
//		server := mongotest.Start(t)
//		client, err := mongo.Connect(options.Client().ApplyURI(server.URI()))
//		...
//		server.DropConnections() // and see what your code does
//	}
//
// Close the server before the client, and disconnect the client with a context
// that has ended. Of a server that is there the driver (2.10) now and then waits
// ten seconds for the answer to its monitor, whatever Disconnect's context says, or
// for as long as a shorter heartbeat interval says; for one that is gone it looks
// as long as its server selection timeout and that context let it.
//
// MongoDB 6.0.27 is the judge. Scripts of commands are played to both, and
// whole replies compared, errors and their messages too; what the real server
// answered lies in testdata/behaviour. So are random updates.
//
// # What it does
//
//   - hello, isMaster, ping, buildInfo, getParameter (of enableTestCommands),
//     serverStatus, getCmdLineOpts, replSetGetConfig, endSessions, killSessions,
//     killAllSessions, getMore, killCursors.
//   - insert, update (by operators, replacement or pipeline; multi, upsert),
//     delete, find, findAndModify, count, distinct, and aggregate with $match,
//     $project, $addFields, $set, $unset, $replaceRoot, $replaceWith, $sort, $skip,
//     $limit, $count, and the $group that drivers count documents with. Retryable
//     writes are executed once.
//   - Query operators: the comparisons, $in, $nin, $exists, $type, $not, $and, $or,
//     $nor, $all, $size, $elemMatch, $regex, $mod. Update operators: $set,
//     $setOnInsert, $unset, $inc, $mul, $min, $max, $rename, $currentDate, $push
//     ($each, $position, $slice), $addToSet, $pull, $pullAll, $pop.
//   - create and collMod with changeStreamPreAndPostImages, drop, dropDatabase,
//     renameCollection, listCollections, listDatabases, createIndexes (unique ones
//     are enforced), dropIndexes, listIndexes. Views can be made, listed and dropped,
//     for the events of that.
//   - Transactions (commitTransaction, abortTransaction), whose events share one
//     clusterTime.
//   - Change streams of a collection, a database and the deployment: resumeAfter,
//     startAfter, startAtOperationTime, fullDocument and fullDocumentBeforeChange
//     in all their forms, showExpandedEvents (create, createIndexes, dropIndexes,
//     modify, and what the other events have more), $match, $project, $addFields
//     and the other stages above after it, $changeStreamSplitLargeEvent as the last
//     of them, tokens in the server's own formats, post-batch resume tokens, the
//     errors 260, 280, 286 and 136 with their labels, 47 for an image that is
//     required and missing. find on local.oplog.rs shows how far back the history
//     goes.
//   - The fail points failCommand and failGetMoreAfterCursorCheckout
//     (configureFailPoint), replSetStepDown, and from Go the methods of [Server].
//
// It says that it is 6.0.27, and there is no option to say otherwise: nothing
// newer is there to play the scripts to. Of what newer servers do differently
// with change streams it has the tokens, see [Options], which a 6.0.27 gives, too,
// when it is asked to. It does not have disambiguatedPaths (since 6.1).
//
// # What it does not do
//
// What it does not know it refuses by name, with the server's own code: a
// command with CommandNotFound (59), a field, stage or operator that does not
// exist with the code for that, and one that does exist, but not here, with
// NotImplemented (238). Among these:
//
//   - resuming after a token of MongoDB 4.0 or before, showSystemEvents and the
//     other options of $changeStream that are for the server's own use, explain;
//   - collMod with anything but changeStreamPreAndPostImages (so the older
//     recordPreImages);
//   - arrayFilters and other positional updates, $bit, arithmetic with decimals,
//     $push with $sort;
//   - $expr, $where, $text, geometry, collations, expressions other than
//     literals, field paths, documents and arrays of them;
//   - reading through views, changing them; capped, clustered and time-series
//     collections, validators, indexes that expire documents, partial, text and
//     other special indexes;
//   - users, TLS, compression, the read concern snapshot outside of transactions.
//
// And it is simpler than a real server in ways that nobody is told of:
//
//   - Everything is in memory, under one lock. The oplog holds as many entries as
//     [Options] say, not bytes; hints and most of the other options for performance
//     or durability are taken and mean nothing.
//   - Nobody waits for a transaction: a write outside of it to a document that it
//     has changed goes through, and it finds that out when it commits. A
//     collection that it creates is there at once.
//   - Images are kept as long as the oplog's entry; nothing else removes them, and
//     they are not to be found in config.system.preimages. A stream that requires
//     images passes over an event without them if a $match hides it that has
//     nothing to do with images, as a real server does; here a $match counts as
//     such, too, that goes by a field computed from an image.
//   - Regular expressions are Go's, and those that Go refuses are refused.
//   - A resume token must be whole: a real server takes one with bytes after its
//     end, too.
//   - A field that one stage of a pipeline removes and a later one sets again is at
//     the end of the document; a real server keeps its place.
//   - Of a view's pipeline only the names of the stages are looked at, and views may
//     go in a circle.
//   - An array within an array is not looked into by $elemMatch with operators.
//
// The query and update languages are its own, a few hundred lines. A library
// would have been better. Of those there are, FerretDB keeps its engine to itself
// (internal packages, and since version 2 it is PostgreSQL's), and lungo is built
// on the driver's version 1; neither tells what an update changed, which is what
// change events are made of.
package mongotest
