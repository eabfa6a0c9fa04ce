package crashtest

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// An Op is what a change does.
type Op uint8

// The operations.
const (
	Insert Op = iota + 1
	Update
	Delete
	// Read is a document that was copied. It changes nothing.
	Read
)

func (o Op) String() string {
	switch o {
	case Insert:
		return "insert"
	case Update:
		return "update"
	case Delete:
		return "delete"
	case Read:
		return "read"
	}
	return "unknown"
}

// A Doc is a document, by collection and _id. An _id is never used again.
type Doc struct {
	Coll string
	ID   int64
}

// A Change is one change of a document. Version is 1 for its insert and one more
// with each change after it.
type Change struct {
	Doc     Doc
	Op      Op
	Version int
}

func (c Change) String() string {
	return fmt.Sprintf("%s of %s/%d to version %d", c.Op, c.Doc.Coll, c.Doc.ID, c.Version)
}

// A Mix says how many inserts, updates and deletes there are, in proportion.
type Mix struct{ Inserts, Updates, Deletes int }

// A lane is a part of the plan whose changes are written one after the other. No
// two lanes have a document in common, so the order of a document's changes
// is the order of its lane.
type lane struct {
	coll    string
	left    int // changes still to be made
	mix     Mix
	rng     *rand.Rand
	nextID  int64
	step    int64
	live    []Change // the last change of each document that exists
	touched map[int64]bool
}

// lanes divides n changes among the collections, with several lanes each. What
// they do depends on the seed and on nothing else.
func lanes(seed uint64, colls []string, perColl, n int, mix Mix) []*lane {
	var all []*lane
	total := len(colls) * perColl
	for k := range total {
		left := n / total
		if k < n%total {
			left++
		}
		all = append(all, &lane{
			coll: colls[k%len(colls)], left: left, mix: mix,
			rng:    rand.New(rand.NewPCG(seed, uint64(k))),
			nextID: int64(k/len(colls)) + 1, step: int64(perColl),
			touched: map[int64]bool{},
		})
	}
	return all
}

// next returns the next changes, at most n, of n documents: a batch that failed
// can then be told apart from one that was done, document by document.
func (l *lane) next(n int) []Change {
	clear(l.touched)
	var batch []Change
	for len(batch) < n && l.left > 0 {
		c, ok := l.change()
		if !ok {
			break
		}
		l.touched[c.Doc.ID] = true
		batch = append(batch, c)
		l.left--
	}
	return batch
}

// change makes up the next change. It is not ok if it chose a document that the
// batch has already.
func (l *lane) change() (c Change, ok bool) {
	kind := l.rng.IntN(l.mix.Inserts + l.mix.Updates + l.mix.Deletes)
	if kind < l.mix.Inserts || len(l.live) == 0 {
		c = Change{Doc: Doc{l.coll, l.nextID}, Op: Insert, Version: 1}
		l.nextID += l.step
		l.live = append(l.live, c)
		return c, true
	}
	i := l.rng.IntN(len(l.live))
	c = l.live[i]
	if l.touched[c.Doc.ID] {
		return c, false
	}
	c.Version++
	if kind < l.mix.Inserts+l.mix.Updates {
		c.Op = Update
		l.live[i] = c
		return c, true
	}
	c.Op = Delete
	last := len(l.live) - 1
	l.live[i] = l.live[last]
	l.live = l.live[:last]
	return c, true
}

// cents is the content that a document has at a version.
func (c Change) cents(seed uint64) int64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %s %d %d", seed, c.Doc.Coll, c.Doc.ID, c.Version)
	return int64(h.Sum64() % 100_000_00)
}

var (
	customers = []string{"Ada", "Bruno", "Chiara", "Dario", "Elena", "Fabio", "Gina", "Hugo"}
	items     = []string{"rigatoni", "penne", "fusilli", "farfalle", "linguine", "orecchiette"}
	states    = []string{"packed", "sent", "delivered", "returned", "refunded"}
)

// document is the one that an insert writes.
func (c Change) document(seed uint64) bson.D {
	return bson.D{
		{Key: "_id", Value: c.Doc.ID},
		{Key: "v", Value: int32(c.Version)},
		{Key: "customer", Value: customers[c.Doc.ID%int64(len(customers))]},
		{Key: "item", Value: items[c.Doc.ID%int64(len(items))]},
		{Key: "cents", Value: c.cents(seed)},
		{Key: "status", Value: "new"},
	}
}

// fields are what an update sets.
func (c Change) fields(seed uint64) bson.D {
	return bson.D{
		{Key: "v", Value: int32(c.Version)},
		{Key: "cents", Value: c.cents(seed)},
		{Key: "status", Value: states[c.Version%len(states)]},
	}
}
