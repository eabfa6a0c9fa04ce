package changestream

import (
	"strings"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/glob"
)

// A rename of a collection that the stream doesn't have, onto a name that it has, brings
// documents of which there is no event but the rename itself: so does $out, which writes
// to a temporary collection and renames it. While a copy is under way they are copied
// (see copyState.renamed). Otherwise somebody has to ask for that, which each such rename
// says in the log.
//
// Why the stream doesn't begin a copy by itself, where a snapshot is configured: what a
// copy needs (MongoDB 5.0, no mongos, listCollections, a collection that isn't capped, no
// stage that removes the field to) was verified, if at all, when the stream was opened and
// copied. A stream that goes on from a checkpoint needs none of that, and would stop at a
// rename, and at each start after it, since the state of the copy is in the checkpoint by
// then. To leave the copy out in these cases the server must be asked between two events,
// and what it answers is of now, not of the time of the rename.

// warnOfRenames logs the renames among events of a stream that copies nothing.
func (r *reader) warnOfRenames(events []rigatoni.Event) {
	for _, ev := range events {
		if ev.OperationType() == "rename" {
			r.warnOfRename(ev)
		}
	}
}

func (r *reader) warnOfRename(ev rigatoni.Event) {
	sc, from, to := r.fingerprint.scope, ev.Namespace(), newNameOf(ev)
	if !sc.bringsUnseen(from, to) {
		return
	}
	name := to.Coll
	if sc.database == "" || glob.IsPattern(sc.database) {
		name = to.String()
	}
	r.log.Warn("a collection whose events the stream does not have was renamed to one that it has: the documents have no events, and are missing at the destination; stop the pipeline, and have the collection copied",
		"from", from.String(), "to", to.String(), "cluster_time", clock(ev.ClusterTime()),
		"command", "rigatoni checkpoint set PIPELINE.yaml --snapshot "+name+" --execute")
}

// bringsUnseen reports whether a rename brings documents that the scope has no events of.
// convertToCapped writes to a temporary collection without any events, whatever the scope.
func (s scope) bringsUnseen(from, to rigatoni.Namespace) bool {
	return s.covers(to) && (!s.covers(from) || isConverted(from))
}

// isConverted reports whether a name is one that convertToCapped writes to.
func isConverted(ns rigatoni.Namespace) bool { return strings.Contains(ns.Coll, ".convertToCapped.") }

// newNameOf is the new name in a rename event; empty if a stage has removed it.
func newNameOf(ev rigatoni.Event) rigatoni.Namespace {
	db, _ := ev.Raw.Lookup("to", "db").StringValueOK()
	coll, _ := ev.Raw.Lookup("to", "coll").StringValueOK()
	return rigatoni.Namespace{DB: db, Coll: coll}
}
