// Package changestream is the source that reads a MongoDB change stream: of some
// collections, of a database, or of a whole deployment.
//
//	source, err := changestream.New(client, &changestream.Options{
//		Database:    "shop",
//		Collections: []string{"orders", "log_*"},
//		Operations:  []string{"insert", "update", "replace"},
//	})
//
// A [Source] goes into rigatoni.Config. Its streams begin at a checkpoint, at a
// cluster time, or at now. When a stream is interrupted, it is reopened at its
// position, for as long as it takes: through elections, restarts, killed cursors
// and servers that are down for hours. Only an error that retrying can't mend
// ends a stream: the oplog no longer reaches back to its position
// ([rigatoni.ErrHistoryLost]), the server refuses the user, or an event can't be
// read at all (it is over 16 MB, also in parts, a required image is missing, or an expression of
// the pipeline fails on it), in which case every event before it has been
// returned.
//
// A connection on which no reply comes is given up ten seconds after the time that
// the server may wait for events ([Options].MaxAwait), and the stream is reopened. An
// error of the server that this package doesn't know ends a stream when it has come
// for a minute, and nothing else.
//
// A stream survives an invalidate event (its collection was dropped or renamed,
// its database dropped): the event is returned, and the stream is resumed after
// it, with the next collection of that name. A rename that brings documents which the
// stream has no events of, from a collection outside its scope, is a warning in the log
// with the command that copies them.
//
// # Filters
//
// The server selects collections and databases by name or pattern, operations by
// type, and applies the stages of a [Pipeline]. A pipeline can't make an event
// lose its resume token or the other fields that the stream depends on, or hide
// the end of the stream. A filter may depend on what changes, such as the
// document that "updateLookup" looks up: the event to resume after always passes.
//
// # Snapshots
//
// With [rigatoni.Start].Snapshot a stream copies what exists in its scope, as events of
// the type "read" between the changes (Config.Snapshot of a pipeline asks for it). It
// reads the documents at the stream's own position, in slices of 0.2 s between which the
// stream catches up: each document's versions are in order, and the resume token advances
// all the time. It writes nothing to the server. Events of documents that are not copied
// yet are left out, unless the copy is a repetition; one that was resumed from a checkpoint
// delivers deletes.
//
// The stages of [Options].Pipeline see a document as the insert event of it. While a copy
// is under way, drop and rename events pass $match and [Options].Operations, since the
// copy must see them; those that Operations leaves out are not delivered.
//
// A snapshot needs MongoDB 5.0 and a replica set, and reads from the primary. It refuses
// capped collections, which can't be read as they were at a time, and views and
// time-series collections that are named. A collection with a collation is copied in one
// range, and changes of a document may come before the document. [RequestSnapshot] has a
// stream copy a collection once more; [SnapshotProgress] reads a checkpoint's progress.
//
// # Requirements
//
// A replica set of MongoDB 4.2 or later; tested with 6.0. Pre- and post-images
// and expanded events need 6.0. Sharded clusters are reached through mongos in
// the same way, but that has not been tested. The user needs the privileges find
// and changeStream on what is read (the role read has both): for one stream of several
// collections on their database, with OneEach on each of the collections. With the privilege
// replSetGetConfig as well (role clusterMonitor) a checkpoint of another
// deployment is recognized for certain, otherwise only by the name of the replica
// set: when a stream is opened, and each time that its cursor was reopened.
//
// Each stream waits on a connection of its own: a client passed to [New] needs a
// maxPoolSize above the number of streams. [Open] sees to it.
//
// # Limits
//
// Events over 16 MB are read in parts and returned whole, as the server would have sent
// them, if the server can split them (since 6.0.9) and each of their fields fits.
// Otherwise don't ask for images, or remove large fields with $unset or $project.
//
// The position after an invalidate event stays where it is until the next no-op
// or event.
package changestream
