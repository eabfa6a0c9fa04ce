// Package destinationtest tests whether a destination follows the contract of package
// [github.com/rigatoni-etl/rigatoni]. It is for authors of a destination; those of this
// project run it, against real servers and file systems.
//
// # For authors of a destination
//
//	func TestDestination(t *testing.T) {
//		destinationtest.Run(t, func(t *testing.T) destinationtest.Harness {
//			db := newDatabase(t)
//			return destinationtest.Harness{
//				Open: func(context.Context) (rigatoni.Destination, error) { return mydest.Open(db.URL) },
//				Read: func(ctx context.Context, key string) ([]destinationtest.Record, error) { return db.rows(ctx, key) },
//			}
//		})
//	}
//
// The suite plays the pipeline: it opens sessions, delivers, saves checkpoints, is
// killed, comes back as another owner of the lease, and looks at what a reader of the
// destination finds. What it demands follows from what the sink is: order and nothing
// missing of every one, durability before each checkpoint of a [rigatoni.Syncer], and
// each event once where the sink is [rigatoni.Transactional] or the harness says
// ExactlyOnce. Every case has the sentence of the contract that it enforces, and prints it
// when it fails. Cases that don't apply are skipped by name.
//
// Then set Harness.OpenFaulty. With it the suite fails, kills and freezes the destination
// at each of its steps, which is where destinations lose events and write them twice.
//
// The events are inserts, replacements and deletes of documents {_id: ID, n: N} in the
// collection destinationtest.items. Each checkpoint key is a stream of its own.
//
// # For programs
//
// [Check] does the same without package testing and returns a [Report].
//
// # Limits
//
// The suite calls methods in one process. It cuts no power, and loses no replica. It
// doesn't test speed, or what each BSON type looks like in the destination.
package destinationtest
