// Package changestream is the source that reads a MongoDB change stream: of some
// collections, of a database, or of a whole deployment.
//
//	source, err := changestream.New(client, changestream.Options{
//		Database:    "shop",
//		Collections: []string{"orders", "users"},
//	})
//
// A [Source] goes into rigatoni.Config. Its streams begin at a checkpoint, at a
// cluster time, or at now, and from then on reopen themselves at their own
// place, for as long as it takes: through elections, restarts, killed cursors
// and servers that are away for hours. Only an error that no waiting mends ends
// a stream: the oplog no longer reaches back to its place
// ([rigatoni.ErrHistoryLost]), the server refuses the user, or an event can't be
// read at all (it is over 16 MB, or a required image is missing), in which case
// every event before it has been returned.
//
// A stream survives an invalidate event (its collection was dropped or renamed,
// its database dropped): the event is returned, and the stream goes on behind
// it, with the collection that next has the name.
//
// # What the server must be
//
// A replica set of MongoDB 4.2 or later; tested with 6.0. Pre- and post-images
// and expanded events need 6.0. Sharded clusters are reached through mongos in
// the same way, but that has not been tested. The user needs the privileges find
// and changeStream on what is watched (the role read has both). With the
// privilege replSetGetConfig as well (role clusterMonitor) another deployment is told
// from the checkpoint's for certain, else only by the name of the replica set: when a
// stream is opened, and each time that its cursor had to be opened again.
//
// # Limits
//
// Events over 16 MB are not split: ask for no images where documents are that
// large. Server-side filters of one's own are not offered; a transform drops
// what isn't wanted.
//
// The first no-op or event behind the place of an invalidate event moves the
// place on; until then it stays where it is.
package changestream
