// Package postgres delivers to PostgreSQL, each event exactly once: what the events do
// and the checkpoint after them are one transaction. The checkpoints are in a table of
// the same database, that of package pgstore, and Config.Store stays nil.
//
// [Open] writes to tables that it makes: a mirror, with a row for each document, or a
// log, with a row for each event. [Tx] runs a function of the program in the
// transaction:
//
//	dest := postgres.Tx(pool, func(ctx context.Context, tx pgx.Tx, b *rigatoni.Batch) error {
//		for _, ev := range b.Events {
//			if _, err := tx.Exec(ctx, "INSERT INTO changes (op, id) VALUES ($1, $2)", ev.OperationType(), ev.DocumentKey().String()); err != nil {
//				return err
//			}
//		}
//		return nil
//	})
//	err := rigatoni.Run(ctx, rigatoni.Config{Name: "orders", Source: source, Destination: dest})
//
// # Tables
//
// Each collection has a table of its own, public.COLLECTION unless [Options].Table says
// otherwise. It is made at the first event, or at the start if the source names its
// collections one by one:
//
//	CREATE TABLE "public"."orders" (_id text COLLATE "C" PRIMARY KEY, doc jsonb, op text NOT NULL,
//		cluster_time timestamptz NOT NULL, version bytea NOT NULL)
//
// A log has seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY before them, in which its
// rows are in the order of the stream; numbers may be missing. Where the user may not
// create a table, the error has the statement ([Destination.Schema] returns it), and
// somebody else executes it. A table that is there already needs these columns; others
// must have a default, be generated, or take NULL. A view, an UNLOGGED table, and a
// mirror without a unique _id are refused.
//
//	_id           the text of the document's _id; see below
//	doc           the document after the event, as plain JSON or relaxed Extended JSON
//	op            insert, update, replace, delete, or read (copied by a snapshot)
//	cluster_time  when the change happened, in seconds
//	version       the resume token's bytes: their order is that of the stream
//
// The table rigatoni_tables records which table belongs to which collection, and the form
// of its rows. One that belongs to another collection, or to that of another pipeline, is
// refused, and so are options that would write rows of another form beside those that
// are there (Format, SoftDelete).
//
// # The text of an _id
//
// Two _ids that MongoDB holds for equal, such as 1, 1.0 and NumberLong(1), have one text,
// and no others do:
//
//	objectId        its 24 digits: 65a100000000000000000000
//	string, symbol  in quotes, escaped as jsonb prints it: "abc"
//	number          its digits where it is whole and fits in 64 bits, otherwise those of the
//	                double: 1, -7, 1.5, 1e+300; NaN, Infinity, -Infinity. A decimal that is
//	                no double: {"$numberDecimal":"1E-1"}, without zeros at the end of its digits
//	UUID            00112233-4455-6677-8899-aabbccddeeff
//	date            2026-11-29T18:51:02.000Z
//	boolean, null   true, false, null
//	minKey, maxKey  MinKey, MaxKey; undefined: undefined
//	object          {"a":1,"b":"x"}, its fields in their order; in it an objectId is
//	                {"$oid":"65a1…"}, and UUIDs and dates likewise
//	others          canonical Extended JSON
//
// A text of more than 1,024 bytes is cut, and ends with "…sha256:" and the SHA-256 of all
// of it. Of a sharded collection's documentKey only the _id counts.
//
// # What jsonb can't hold
//
//   - U+0000 becomes U+FFFD, which is logged once for each table and counted
//     ([Destination.ReplacedNULs]), or refuses the event ([Options].OnNUL).
//   - Bytes that aren't UTF-8 become U+FFFD.
//   - NaN and infinities are the strings "NaN", "Infinity" and "-Infinity", or in relaxed
//     form {"$numberDouble":"NaN"}; decimals are strings, all their digits kept. A double
//     is a number, exactly as its shortest digits; -0.0 loses its sign.
//   - Of a key that a document has twice the last one counts. Keys lose their order.
//   - Documents of 16 MB and 100 levels, the most that MongoDB stores, fit.
//
// # Guarantees
//
//   - Exactly once, through crashes of the pipeline and of the server, lost answers of
//     COMMIT, and owners that were frozen and thaw: see [Tx].
//   - In a mirror no row goes back to an earlier version, also after the checkpoint was
//     set back. A row that was deleted comes back until its delete is repeated, unless
//     Options.SoftDelete keeps it.
//   - A row that PostgreSQL refuses (a constraint, a trigger, a generated column that
//     can't be computed: errors of the classes 22, 23, 54 and P0) is one of a refused
//     event, for Config.DeadLetters. Where the table is at fault (it was dropped, lacks a
//     column or a right, can't be made), the pipeline ends with
//     rigatoni.ErrDestinationClosed, and no event is refused. Everything else is tried
//     again.
//   - When the copy of a collection has ended, a mirror deletes the rows that the copy
//     didn't find, or marks them as deleted.
//
// Updates need their document: a source without Options.FullDocument is refused. With
// updateLookup the document is that of the moment when the event is read, and may have
// later changes already. If it was deleted meanwhile, a mirror passes over the update,
// whose delete follows, and a log has a row without doc.
//
// # Dropped collections
//
// drop, rename and dropDatabase refuse the event by default, which stops the pipeline with
// the facts; [Options].OnDrop keeps the rows or deletes them instead. Rows are deleted in
// steps, before the event counts as delivered. A rename deletes those of both names, and
// the documents under the new name need a new copy: rename gives no events for them.
package postgres
