package crashtest

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A copyLedger records what arrives of a pipeline that copies the documents that are
// there, and checks each document: it arrives once as it was at one moment, and from
// there on with every change, one version after the other. One that was deleted before
// it was copied may not arrive at all.
//
// After a kill chunks are read again, at another moment: that lines are repeated in the
// same order, as those of a stream are, is no promise.
type copyLedger struct {
	seed   uint64
	before map[Doc]bool // the documents that are there before the pipeline starts
	strict bool         // of finished files: nothing arrives twice
	docs   map[Doc]*copied
	counts counts
	faults faults
}

// A copied is what has arrived of a document.
type copied struct {
	read     int          // the version that was copied; 0: none, it came by its insert
	version  int          // the last one
	versions map[int]bool // all that arrived
	deleted  bool         // the delete has no version
}

// gone reports whether nothing but the delete has arrived: the document was deleted
// before it was copied.
func (d *copied) gone() bool { return d == nil || d.deleted && len(d.versions) == 0 }

func newCopyLedger(seed uint64, before map[Doc]bool, strict bool) *copyLedger {
	return &copyLedger{seed: seed, before: before, strict: strict, docs: map[Doc]*copied{}, faults: faults{full: roomFor}}
}

func (l *copyLedger) tally() counts  { return l.counts }
func (l *copyLedger) wrong() *faults { return &l.faults }

// begin implements record. How many documents a checkpoint covers, it says itself.
func (l *copyLedger) begin(checkpoints map[string]state.Checkpoint) (covered int) {
	for name, cp := range checkpoints {
		s, copying, err := changestream.SnapshotProgress(cp)
		switch {
		case err != nil:
			l.faults.add("stream %q: %v", name, err)
		case copying:
			covered += int(s.Documents)
		default:
			covered += l.counts.copied // all
		}
	}
	return covered
}

func (l *copyLedger) arrive(file string, line []byte) {
	a, err := parse(line)
	if err != nil {
		l.faults.add("a line of %s is no event: %v", file, err)
		return
	}
	c := a.what
	switch {
	case c.Op == 0:
		l.faults.add("an event of another kind arrived in %q", c.Doc.Coll)
		return
	case c.Op != Delete && a.cents != c.cents(l.seed):
		l.faults.add("%s arrived with other contents: cents %d instead of %d", c, a.cents, c.cents(l.seed))
	}
	d := l.docs[c.Doc]
	if d == nil {
		d = &copied{versions: map[int]bool{}}
		l.docs[c.Doc] = d
	}
	if c.Op == Delete {
		l.remove(d, c)
	} else {
		l.enter(d, c)
	}
}

func (l *copyLedger) remove(d *copied, c Change) {
	if d.deleted {
		l.repeated(c)
		return
	}
	d.deleted = true
	l.counts.arrived++
}

func (l *copyLedger) repeated(c Change) {
	l.counts.twice++
	if l.strict {
		l.faults.add("%s is there twice", c)
	}
}

// enter records a change, or a document that was copied.
func (l *copyLedger) enter(d *copied, c Change) {
	if c.Op == Read {
		l.counts.lines++
	}
	if d.versions[c.Version] {
		l.repeated(c)
		return
	}
	if l.strict {
		l.checkOrder(d, c)
	}
	d.versions[c.Version] = true
	d.version = max(d.version, c.Version)
	l.counts.arrived++
	if c.Op == Read {
		d.read = max(d.read, c.Version)
		l.counts.copied++
	}
}

func (l *copyLedger) checkOrder(d *copied, c Change) {
	first := len(d.versions) == 0
	switch {
	case d.deleted:
		l.faults.add("%s arrived after the document was deleted", c)
	case first && c.Op == Update:
		l.faults.add("%s arrived before the document", c)
	case !first && c.Op != Update:
		l.faults.add("%s arrived when the document was at version %d", c, d.version)
	case !first && c.Version != d.version+1:
		l.faults.add("%s arrived when the document was at version %d", c, d.version)
	}
}

// complete implements record.
func (l *copyLedger) complete(written map[Doc][]Change) bool {
	for doc, changes := range written {
		if missing(l.docs[doc], changes) > 0 {
			return false
		}
	}
	return true
}

// missing counts the changes of a document that should have arrived and did not.
func missing(d *copied, changes []Change) (n int) {
	last := changes[len(changes)-1]
	if d.gone() {
		if last.Op == Delete {
			return 0
		}
		return 1 // the document
	}
	for _, c := range changes {
		if c.Version > d.read && !d.versions[c.Version] && !(c.Op == Delete && d.deleted) {
			n++
		}
	}
	return n
}

// compare implements record, and counts where each change is.
func (l *copyLedger) compare(written map[Doc][]Change) (lost, madeUp int) {
	l.faults.kind()
	for doc, changes := range written {
		d := l.docs[doc]
		if n := missing(d, changes); n > 0 {
			lost += n
			l.faults.add("%d changes of %s/%d never arrived; the last one was the %s", n, doc.Coll, doc.ID, changes[len(changes)-1])
		}
		for _, c := range changes {
			switch {
			case l.before[doc] && c.Op == Insert:
			case d.gone(), c.Version <= d.read:
				l.counts.inCopy++
			default:
				l.counts.changes++
			}
		}
	}
	l.faults.kind()
	for doc, d := range l.docs {
		last := Change{Op: Delete}
		if changes := written[doc]; len(changes) > 0 {
			last = changes[len(changes)-1]
		}
		if d.version > last.Version || d.deleted && last.Op != Delete {
			madeUp++
			l.faults.add("%s/%d arrived as it never was: version %d, deleted: %v", doc.Coll, doc.ID, d.version, d.deleted)
		}
	}
	return lost, madeUp
}

// fill inserts the documents that there are before the pipeline starts.
func (w *writer) fill(ctx context.Context, n int) (map[Doc]bool, error) {
	all := map[Doc]bool{}
	for k, l := range w.lanes {
		left := n / len(w.lanes)
		if k < n%len(w.lanes) {
			left++
		}
		for left > 0 {
			batch := l.fill(min(left, 1000))
			left -= len(batch)
			docs := make([]bson.D, len(batch))
			for i, c := range batch {
				docs[i] = c.document(w.seed)
			}
			if _, err := w.db.Collection(l.coll).InsertMany(ctx, docs, options.InsertMany().SetOrdered(false)); err != nil && !mongo.IsDuplicateKeyError(err) {
				return nil, fmt.Errorf("writing the documents to copy: %w", err)
			}
			for _, c := range batch {
				all[c.Doc] = true
			}
		}
	}
	return all, nil
}

// fill makes up n inserts.
func (l *lane) fill(n int) (batch []Change) {
	for range n {
		c := Change{Doc: Doc{l.coll, l.nextID}, Op: Insert, Version: 1}
		l.nextID += l.step
		l.live = append(l.live, c)
		batch = append(batch, c)
	}
	return batch
}
