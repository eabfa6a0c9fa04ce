// Package mongodb delivers to MongoDB, each event exactly once: what the events do and the
// checkpoint after them are one transaction. The checkpoints are in a collection of the same
// deployment, that of package mongostore, and Config.Store stays nil.
//
// [Open] mirrors collections into another database or another deployment. [Tx] runs a function
// of the program in the transaction:
//
//	dest := mongodb.Tx(client, func(ctx context.Context, b *rigatoni.Batch) error {
//		for _, ev := range b.Events {
//			if _, err := changes.InsertOne(ctx, bson.D{{Key: "op", Value: ev.OperationType()}, {Key: "key", Value: ev.DocumentKey()}}); err != nil {
//				return err
//			}
//		}
//		return nil
//	})
//	err := rigatoni.Run(ctx, rigatoni.Config{Name: "orders", Source: source, Destination: dest})
//
// The deployment is a replica set of MongoDB 4.4 or later. (A sharded cluster is accepted, and
// has not been tried.)
//
// # The mirror
//
// Each collection of the source has one of the mirror, of the same name in a database of the
// same name unless [Options].Target says otherwise. It is created before its first document. In
// it each document is byte for byte what it is in the source, of every type of _id, with any
// names of fields, up to 16 MB; nothing is added to it. Events are applied in the order of the
// stream. Indexes, validators, options of collections and views are not mirrored: create those
// that the mirror needs. A unique index beside that of _id may refuse a document that is right,
// where updateLookup has read a later state of one than of another.
//
// Updates need their whole document: changestream.Options.FullDocument is updateLookup (or
// whenAvailable or required). What an update has changed, which a change stream says as well, is
// not enough to make the same document: a name with a dot looks like a path, and the order of
// new fields is lost. With updateLookup a document may be some events ahead of the checkpoint.
//
// A collection of the mirror belongs to one collection of the source and to one pipeline, which
// is on record in a collection beside that of the checkpoints. A collection that has documents
// already is refused, or taken over: [Options].Existing. Views, capped and time-series collections
// and those with a collation are refused.
//
// A stream is refused at opening if it reads what the mirror writes, or its checkpoints: the
// deployments are compared by the id of the replica set, not by their addresses.
//
// # Dropped and renamed collections
//
// [Options].OnDrop says what becomes of their documents. Applied, a drop deletes them, and a
// rename moves them to the collection of the new name, page by page in transactions under the
// fence, so that an owner that was frozen can't destroy what its successor has written. Readers
// see the pages. The collections themselves, with their indexes, stay.
//
// # Copies
//
// When the copy of a collection has ended, the mirror deletes the documents that neither the copy
// nor a later event has written ([rigatoni.Sweeper]). To know them, it marks during a copy what it
// writes, in a collection beside that of the checkpoints, except in a first copy into an empty
// collection.
//
// # Guarantees
//
//   - Documents and checkpoint are committed together or not at all. Where the answer of a commit
//     is lost, the next attempt finds out: its write of the checkpoint conflicts with a transaction
//     that is still open, and sees one that was committed.
//   - An owner that has lost the lease commits nothing.
//   - An owner that is frozen inside a transaction holds up nobody: who takes over ends its session
//     (killSessions), which is on record beside the lease. Where the server doesn't allow that (the
//     new owner is another user), its transaction ends with transactionLifetimeLimitSeconds, 60 s.
//   - A transaction takes at most [Options].TransactionTimeout, because the lease can't be renewed
//     while one is open. Conflicts with other writes are repeated at once.
//
// # Rights
//
// The privileges find, insert, update and remove on each collection of the mirror, on that of
// the checkpoints and on the two beside it, and listCollections on their databases: the role
// readWrite on the databases has them. [Destination.Inspect] names each, and makes the role that
// has exactly them; a session of a stream is refused in the same words, as far as it is known then
// what it will write. Later a delivery fails with the names, and is tried again. The role
// clusterMonitor lets it read the replica set's id (replSetGetConfig); without that, sets of one
// name are taken for the same. What the function of [Tx] does takes its own.
package mongodb
