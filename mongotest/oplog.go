package mongotest

import (
	"sort"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/query"
)

// The kinds of oplog entries.
const (
	opNoop         = "n"
	opInsert       = "insert"
	opUpdate       = "update"
	opReplace      = "replace"
	opDelete       = "delete"
	opDrop         = "drop"
	opRename       = "rename"
	opDropDatabase = "dropDatabase"

	// Kinds that streams see only with showExpandedEvents.
	opCreate        = "create"
	opCreateIndexes = "createIndexes"
	opDropIndexes   = "dropIndexes"
	opModify        = "modify"
)

// An entry is one change, with what change streams need. It is immutable once
// it is in the oplog.
type entry struct {
	ts   bson.Timestamp
	wall time.Time
	kind string
	ns   namespace
	uuid [16]byte
	view bool // ns is a view, and uuid is that of system.views

	key    bson.Raw      // the documentKey
	doc    bson.Raw      // the document after a write other than a delete
	before bson.Raw      // the document before it, in collections with images
	base   bson.Raw      // the document before it
	number int64         // of the record
	change *query.Change // of an update
	to     namespace
	note   string // of a no-op

	description bson.Raw // the operationDescription of a change to a collection itself
	state       bson.Raw // stateBeforeChange, of a modify

	// Of a transaction, whose entries have the same time.
	txnIndex  int
	txnNumber int64
	lsid      bson.Raw

	// oversize means that its events count as larger than a document may be.
	oversize bool
}

// An oplog is the capped list of changes. Entries are numbered from 0, and keep
// their number. The store's lock guards it.
type oplog struct {
	entries []*entry
	first   int64 // the number of entries[0]
	max     int
	// grown is closed and replaced when an entry is added.
	grown chan struct{}
}

func (o *oplog) append(e *entry) {
	o.entries = append(o.entries, e)
	if len(o.entries) > o.max {
		o.forget(len(o.entries) - o.max)
	}
	close(o.grown)
	o.grown = make(chan struct{})
}

// forget removes the oldest n entries.
func (o *oplog) forget(n int) {
	clear(o.entries[:n]) // the array behind them remains in use for a while
	o.entries = o.entries[n:]
	o.first += int64(n)
}

// at returns the entry with that number; nil if it does not exist yet, or no
// longer.
func (o *oplog) at(n int64) *entry {
	if i := n - o.first; i >= 0 && i < int64(len(o.entries)) {
		return o.entries[i]
	}
	return nil
}

// since returns the number of the first entry at or after a time.
func (o *oplog) since(ts bson.Timestamp) int64 {
	return o.first + int64(sort.Search(len(o.entries), func(i int) bool { return !o.entries[i].ts.Before(ts) }))
}

// reaches reports whether all entries since a time are still there. An oplog
// that begins with the initiation of the replica set is complete.
func (o *oplog) reaches(ts bson.Timestamp) bool {
	return o.first == 0 || !o.entries[0].ts.After(ts)
}

func (o *oplog) last() *entry { return o.entries[len(o.entries)-1] }
