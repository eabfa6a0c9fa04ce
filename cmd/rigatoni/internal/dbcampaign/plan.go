package dbcampaign

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A Doc is a document: the n-th of a collection. It may be deleted and inserted again.
type Doc struct {
	Coll string
	N    int
}

// Name is unique among all documents, and their field k.
func (d Doc) Name() string { return d.Coll + "/" + strconv.Itoa(d.N) }

// A Change is one change of a document. Version grows by one with each, over all of the
// document's lives.
type Change struct {
	Doc     Doc
	Op      string // insert, update, replace or delete
	Version int
	Life    int // how often it had been inserted, this time included
	When    When
}

func (c Change) String() string {
	return fmt.Sprintf("%s of %s to version %d", c.Op, c.Doc.Name(), c.Version)
}

// When says when a change was made, as far as that is certain.
type When int

// The times of changes. Without a copy all are Meanwhile.
const (
	Meanwhile When = iota
	Before         // acknowledged before the pipeline's first start
	After          // begun when the checkpoint said that the copy had ended
)

// singles are _ids of which there is one a collection.
var singles = []any{nil, true, false, bson.MinKey{}, bson.MaxKey{}, "", math.NaN(), math.Inf(-1), bson.D{}}

// id is the document's _id. Every BSON type that can be one comes up. A number is the
// same _id to MongoDB whatever its type is, and has another one in each life.
func (d Doc) id(life int) any {
	n := d.N - len(singles)
	if n < 0 {
		return singles[d.N]
	}
	text := strconv.Itoa(n)
	switch n % 14 {
	case 0:
		return int32(n)
	case 1:
		return int64(n) + 1<<40
	case 2:
		return float64(n) + 0.5
	case 3:
		return "doc " + text + ` "ü" \ $1`
	case 4:
		return bson.ObjectID{0: 1, 10: byte(n >> 8), 11: byte(n)}
	case 5:
		return bson.NewDateTimeFromTime(time.UnixMilli(int64(n)*86_400_123 - 1e12))
	case 6:
		return decimal(text + ".25")
	case 7:
		return bson.Binary{Subtype: 0, Data: binary.BigEndian.AppendUint32(nil, uint32(n))}
	case 8:
		return bson.Binary{Subtype: 4, Data: append(make([]byte, 12), binary.BigEndian.AppendUint32(nil, uint32(n))...)}
	case 9:
		return bson.D{{Key: "b", Value: int32(n)}, {Key: "a", Value: bson.A{text, nil}}}
	case 10:
		return bson.Timestamp{T: uint32(n), I: 7}
	case 11:
		return text // as a string, beside the number
	case 12:
		return bson.JavaScript("f" + text)
	}
	m := n + 1_000_000
	return []any{int32(m), float64(m), int64(m), decimal(strconv.Itoa(m)), decimal(strconv.Itoa(m) + ".000")}[life%5]
}

func decimal(text string) bson.Decimal128 {
	d, err := bson.ParseDecimal128(text)
	if err != nil {
		panic(err)
	}
	return d
}

// contents are what all documents' contents depend on.
type contents struct {
	seed uint64
	pad  int // bytes that each has beside what tells it from others
}

// content is what a document has at a version, beside _id and k.
func (c Change) content(of contents) bson.D {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %s %d", of.seed, c.Doc.Name(), c.Version)
	sum := h.Sum64()
	doc := bson.D{
		{Key: "v", Value: int32(c.Version)}, {Key: "sum", Value: int64(sum >> 1)},
		{Key: "in", Value: bson.D{{Key: "text", Value: fmt.Sprintf("%x è %x", sum, c.Version)}, {Key: "half", Value: float64(c.Version) / 2}}},
		{Key: "all", Value: bson.A{int32(c.Version % 7), fmt.Sprint(sum % 1000), nil}},
	}
	if of.pad > 0 {
		doc = append(doc, bson.E{Key: "pad", Value: strings.Repeat("penne ", of.pad/6)})
	}
	return doc
}

// document is the whole of it.
func (c Change) document(of contents) bson.D {
	return append(bson.D{{Key: "_id", Value: c.Doc.id(c.Life)}, {Key: "k", Value: c.Doc.Name()}}, c.content(of)...)
}

// A step is some changes that are written together.
type step struct {
	changes []Change
	txn     string // the name of their transaction, in which several may be of one document; or ""
}

// A lane is a part of the plan whose steps are written one after the other. No two
// lanes have a document in common.
type lane struct {
	rng   *rand.Rand
	colls []string
	docs  []int // the numbers of its documents, in each collection
	left  int
	now   map[Doc]Change // the last change of each
	name  string
	txns  int
}

// lanes are lanes that have docs documents a collection between them.
func lanes(seed uint64, colls []string, many, docs int) []*lane {
	var all []*lane
	for i := range many {
		l := &lane{rng: rand.New(rand.NewPCG(seed, uint64(i))), colls: colls, now: map[Doc]Change{}, name: strconv.Itoa(i)}
		for d := i; d < docs; d += many {
			l.docs = append(l.docs, d)
		}
		all = append(all, l)
	}
	return all
}

// next makes up the next step.
func (l *lane) next() step {
	if l.rng.IntN(4) == 0 {
		l.txns++
		s := step{txn: fmt.Sprint(l.name, "/", l.txns)}
		for range min(l.left, 2+l.rng.IntN(6)) {
			d := l.any(l.colls[l.rng.IntN(len(l.colls))])
			if n := len(s.changes); n > 0 && l.rng.IntN(3) == 0 {
				d = s.changes[n-1].Doc // the same one again, at the same cluster time
			}
			s.changes = append(s.changes, l.change(d))
		}
		return s
	}
	coll := l.colls[l.rng.IntN(len(l.colls))]
	var s step
	touched := map[Doc]bool{}
	for range min(l.left, 1+l.rng.IntN(12)) {
		if d := l.any(coll); !touched[d] {
			touched[d] = true
			s.changes = append(s.changes, l.change(d))
		}
	}
	return s
}

func (l *lane) any(coll string) Doc { return Doc{coll, l.docs[l.rng.IntN(len(l.docs))]} }

// change makes up the next change of a document.
func (l *lane) change(d Doc) Change {
	was, known := l.now[d]
	c := Change{Doc: d, Version: was.Version + 1, Life: was.Life}
	switch r := l.rng.IntN(20); {
	case !known || was.Op == "delete":
		c.Op, c.Life = "insert", was.Life+1
	case r < 11:
		c.Op = "update"
	case r < 14:
		c.Op = "replace"
	default:
		c.Op = "delete"
	}
	l.now[d] = c
	l.left--
	return c
}
