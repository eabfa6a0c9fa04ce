package changestream

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
)

// Bounds that are computed lie between the keys, in order, and about evenly.
func TestBoundsAreComputed(t *testing.T) {
	id := func(hex string) bson.ObjectID {
		o, err := bson.ObjectIDFromHex(hex)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	for name, c := range map[string]struct {
		from, to any
		want     []any
	}{
		"int32":        {int32(0), int32(8), []any{2.0, 4.0, 6.0}},
		"mixed":        {int32(-4), int64(4), []any{-2.0, 0.0, 2.0}},
		"double":       {0.5, 1.5, []any{0.75, 1.0, 1.25}},
		"date":         {bson.DateTime(-10), bson.DateTime(30), []any{bson.DateTime(0), bson.DateTime(10), bson.DateTime(20)}},
		"ends of time": {bson.DateTime(math.MinInt64), bson.DateTime(math.MaxInt64), []any{bson.DateTime(-1<<62 - 1), bson.DateTime(-1), bson.DateTime(1<<62 - 1)}},
		"ObjectID": {id("000000000000000000000000"), id("000000000000000000000800"), []any{
			id("000000000000000000000200"), id("000000000000000000000400"), id("000000000000000000000600"),
		}},
		"UUID": {bson.Binary{Subtype: 4, Data: make([]byte, 16)}, bson.Binary{Subtype: 4, Data: append([]byte{4}, make([]byte, 15)...)}, []any{
			bson.Binary{Subtype: 4, Data: append([]byte{1}, make([]byte, 15)...)}, bson.Binary{Subtype: 4, Data: append([]byte{2}, make([]byte, 15)...)},
			bson.Binary{Subtype: 4, Data: append([]byte{3}, make([]byte, 15)...)},
		}},
		"few between":      {int32(1), int32(2), []any{1.25, 1.5, 1.75}}, // which are keys, too
		"nothing between":  {id("000000000000000000000001"), id("000000000000000000000002"), nil},
		"other order":      {int32(9), int32(1), nil},
		"other types":      {int32(1), id("000000000000000000000002"), nil},
		"infinity":         {0.0, math.Inf(1), nil},
		"not a number":     {math.NaN(), 1.0, nil},
		"strings":          {"a", "z", nil},
		"unequal binaries": {bson.Binary{Data: []byte{1}}, bson.Binary{Data: []byte{1, 2}}, nil},
		"subtypes":         {bson.Binary{Subtype: 3, Data: []byte{1}}, bson.Binary{Subtype: 4, Data: []byte{9}}, nil},
		"old binaries":     {bson.Binary{Subtype: 2, Data: []byte{0}}, bson.Binary{Subtype: 2, Data: []byte{8}}, []any{bson.Binary{Subtype: 2, Data: []byte{2}}, bson.Binary{Subtype: 2, Data: []byte{4}}, bson.Binary{Subtype: 2, Data: []byte{6}}}},
		"MaxKey":           {int32(1), bson.MaxKey{}, nil},
		"malformed":        {bson.RawValue{Type: bson.TypeBinary, Value: []byte("\x02\x00\x00\x00\x02ab")}, bson.RawValue{Type: bson.TypeBinary, Value: []byte("\x02\x00\x00\x00\x02cd")}, nil},
		"max of int64":     {int64(math.MaxInt64 - 1), int64(math.MaxInt64), nil},
	} {
		r := &keyRange{Cursor: key(t, c.from)}
		got := r.between(key(t, c.to), 4)
		var want []*sortKey
		for _, v := range c.want {
			want = append(want, key(t, v))
		}
		if fmt.Sprint(textOf(got)) != fmt.Sprint(textOf(want)) {
			t.Errorf("%s: %v, want %v", name, textOf(got), textOf(want))
		}
	}
}

func textOf(keys []*sortKey) (text []string) {
	for _, k := range keys {
		text = append(text, k.value.String())
	}
	return text
}

// A range that is divided has the same keys, and those that are copied stay copied.
func TestRangesThatAreDivided(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 200 {
		c := &collectionCopy{ns: rigatoni.Namespace{DB: "d", Coll: "a"}, ranges: []*keyRange{{}}, highest: key(t, int32(r.IntN(1000))), bytesEstimated: 1 << 40}
		s := newCopyState(highWaterMark(t, ts(9, 9)), ts(10, 0), false, namespaces("d", "a"), time.UnixMilli(1)).begin(c)
		copied := map[int]bool{}
		for range 1 + r.IntN(6) {
			ranges := s.runs[0].active[0].ranges
			x := ranges[r.IntN(len(ranges))]
			from, to := 0, 1000
			if x.from() != nil {
				from = int(x.from().value.AsFloat64()) + 1
			}
			if x.Upper != nil {
				to = int(math.Ceil(x.Upper.value.AsFloat64()))
			}
			if from < to {
				cursor := from + r.IntN(to-from)
				for k := from; k <= cursor; k++ {
					copied[k] = true
				}
				if x.Cursor == nil && x.Lower != nil && x.Lower.index == key(t, int32(from-1)).index {
					copied[from-1] = true // the lower bound belongs to the range
				}
				s = s.advance(c.ns, x, key(t, int32(cursor)), false, 1, 1)
			}
			s = s.divide(c.ns, x, 1+r.IntN(5), 1)
		}
		ranges := s.runs[0].active[0].ranges
		for k := range 1000 {
			key, in := key(t, int32(k)).index, 0
			for _, x := range ranges {
				if x.has(key) {
					in++
				}
			}
			if in != 1 {
				t.Fatalf("key %d is in %d ranges of %d", k, in, len(ranges))
			}
			if got := s.runs[0].active[0].copied(idOf(mustMarshal(t, bson.D{{Key: "_id", Value: int32(k)}}))); got != copied[k] {
				t.Fatalf("key %d: copied is %v, want %v", k, got, copied[k])
			}
		}
	}
}

// A large collection is read in several ranges, whatever the kind and the distribution of
// its keys: by bounds that are computed, or drawn.
func TestSnapshotDividesCollections(t *testing.T) {
	const docs = 3000
	for name, c := range map[string]struct {
		id    func(i int) any
		drawn bool
	}{
		"numbers":         {func(i int) any { return int32(i) }, false},
		"skewed":          {func(i int) any { return math.Pow(1.01, float64(i)) }, false},
		"most at the end": {func(i int) any { return 1e12 * float64(min(i, 100)) / 100 * (1 + float64(i)/1e9) }, false},
		"ObjectIDs":       {func(int) any { return bson.NewObjectID() }, false},
		"strings":         {func(i int) any { return fmt.Sprintf("user %d", i) }, true},
		"documents":       {func(i int) any { return bson.D{{Key: "a", Value: int32(i % 7)}, {Key: "b", Value: int32(i)}} }, true},
		"several types": {func(i int) any {
			if i%2 == 0 {
				return int32(i)
			}
			return fmt.Sprint(i)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			w, s := real(t, Options{SnapshotChunkBytes: 4 << 10, SnapshotParallelism: 4})
			var all []any
			for i := range docs {
				all = append(all, bson.D{{Key: "_id", Value: c.id(i)}, {Key: "pad", Value: strings.Repeat("x", 100)}})
			}
			if _, err := w.DB.Collection("a").InsertMany(t.Context(), all, options.InsertMany().SetOrdered(false)); err != nil {
				t.Fatal(err)
			}
			st := w.open(s, "", rigatoni.Start{Snapshot: true})
			cs := st.Stream.(*copyStream)
			m, most, early := newMirror(t), 0, 0
			st.copyAll(func(ev rigatoni.Event) {
				m.apply(ev)
				cs.keys.wait() // so small a copy may end before the keys are drawn
				if at, ok := cs.state.find(ev.Namespace()); ok && at.active >= 0 {
					c := cs.state.runs[at.run].active[at.active]
					if most = max(most, len(c.ranges)); len(c.ranges) >= 3 {
						early++
					}
				}
			})
			m.matches(w.DB, "a")
			if m.reads != docs {
				t.Errorf("%d reads, want %d", m.reads, docs)
			}
			if most < 3 || most > 8 {
				t.Errorf("%d ranges at most", most)
			}
			if early < docs/2 && !c.drawn { // when keys are drawn, much may be copied by then
				t.Errorf("only %d of %d documents came while there were three ranges or more", early, docs)
			}
		})
	}
}

// dividedState is that of a collection with ranges of 100 keys each, and much to read.
func dividedState(t *testing.T, ranges int) (*copyState, *collectionCopy) {
	c := &collectionCopy{ns: rigatoni.Namespace{DB: "d", Coll: "a"}, highest: key(t, int32(100*ranges)), bytesEstimated: 1 << 40}
	for i := range ranges {
		c.ranges = append(c.ranges, &keyRange{Lower: key(t, int32(100*i)), Upper: key(t, int32(100*i+100)), Cursor: key(t, int32(100*i+5))})
	}
	return newCopyState(highWaterMark(t, ts(9, 9)), ts(10, 0), false, namespaces("d", "a"), time.UnixMilli(1)).begin(c), c
}

// Of the keys that are drawn, those count that are in what is left of the only range. It is
// divided by them once.
func TestDrawnKeysDivideWhatIsLeft(t *testing.T) {
	state, c := dividedState(t, 2)
	c.parts = 4
	var keys []*sortKey
	for k := 300; k >= 0; k -= 5 {
		keys = append(keys, key(t, int32(k)), key(t, float64(k)))
	}
	if got := state.divideBy(c.ns, keys).runs[0].active[0]; len(got.ranges) != 2 || got.parts != 0 {
		t.Errorf("two ranges became %d, with %d parts", len(got.ranges), got.parts)
	}
	first := &keyRange{Lower: c.ranges[0].Lower, Upper: c.ranges[0].Upper, Cursor: key(t, int32(50))}
	c.ranges = []*keyRange{first}
	next := state.divideBy(c.ns, keys)
	got := next.runs[0].active[0].ranges
	if len(got) != 4 || got[0].Lower != first.Lower || got[0].Cursor != first.Cursor || got[3].Upper != first.Upper {
		t.Fatalf("%d ranges, want 4 of the one", len(got))
	}
	for i, r := range got[1:] {
		if r.Cursor != nil || r.Lower != got[i].Upper || r.Lower.index <= first.Cursor.index || r.Lower.index >= first.Upper.index {
			t.Errorf("range %d begins at %v, the one before it ends at %v", i+1, r.Lower.value, got[i].Upper.value)
		}
	}
	if again := next.divideBy(c.ns, keys); again != next {
		t.Error("divided twice")
	}
}

// What is nearly read is not divided any more: each part costs a read.
func TestWhatIsNearlyReadIsNotDivided(t *testing.T) {
	for left, want := range map[int64]int{1000: 4, 24: 3, 16: 2, 15: 1, 0: 1, -7: 1} {
		state, c := dividedState(t, 1)
		c.bytes, c.bytesEstimated = 1000, 1000+left
		if got := len(state.divide(c.ns, c.ranges[0], 4, 4).runs[0].active[0].ranges); got != want {
			t.Errorf("%d bytes left, in chunks of 4: %d ranges, want %d", left, got, want)
		}
	}
}

// Keys are drawn of what can't be divided otherwise, while readers have nothing to read,
// and after a failure not before a minute is over. They are used when nobody reads the
// collection.
func TestKeysAreDrawn(t *testing.T) {
	_, src := real(t, Options{})
	draw := func(parts int, from, to any) *keyDrawer {
		d := newKeyDrawer(t.Context(), newLister(src), src.opts.Logger)
		c := &collectionCopy{ns: rigatoni.Namespace{DB: "none", Coll: "a"}, parts: parts, docsEstimated: 1e6, highest: key(t, to), ranges: []*keyRange{{}}}
		if from != nil {
			c.ranges[0].Cursor = key(t, from)
		}
		s := newCopyState(highWaterMark(t, ts(9, 9)), ts(10, 0), false, namespaces("none", "a"), time.UnixMilli(1)).begin(c)
		read := false
		isRead := func(rigatoni.Namespace) bool { return read }
		if d.next(s, false, isRead); d.drawing {
			t.Error("drawn though all readers read")
		}
		if d.next(s, true, isRead); !d.drawing {
			return nil
		}
		d.wait()
		read = true
		if d.next(s, true, isRead) != nil || d.drawing || d.ready == nil {
			t.Fatal("keys were used while the collection is read")
		}
		read = false
		if d.next(s, false, isRead) != nil || d.next(s, true, isRead) == nil || d.ready != nil {
			t.Fatal("keys were not used, once, when there are readers for them")
		}
		d.results <- &drawnKeys{ns: c.ns, err: errReply}
		if d.next(s, true, isRead) != nil || d.drawing || time.Until(d.again) < drawAgain/2 {
			t.Errorf("after a failure: drawing is %v, and may be again in %v", d.drawing, time.Until(d.again))
		}
		d.again = time.Now()
		if d.next(s, true, isRead); !d.drawing {
			t.Error("not drawn again, a minute after a failure")
		}
		d.wait()
		return d
	}
	if draw(4, "a", "z") == nil || draw(4, int32(1), "z") == nil {
		t.Error("strings were not drawn")
	}
	if draw(4, nil, "z") != nil || draw(0, "a", "z") != nil || draw(4, int32(1), int32(9)) != nil {
		t.Error("drawn though nothing is read yet, for no parts, or where bounds can be computed")
	}
}

// A copy that resumes divides collections as before; one of a checkpoint that has nothing of
// it reads the ranges that it has.
func TestDividingResumes(t *testing.T) {
	for _, old := range []bool{false, true} {
		state, c := dividedState(t, 1)
		c.parts, c.ranges[0].Upper = 4, nil
		if old {
			c.parts, c.highest = 0, nil
		}
		text, err := state.encoded()
		if err != nil {
			t.Fatal(err)
		}
		if state, err = parseCopyState([]byte(text)); err != nil {
			t.Fatal(err)
		}
		want := 4
		if old {
			want = 1
		}
		r := state.runs[0].active[0].ranges[0]
		if got := len(state.divide(c.ns, r, 4, 1).runs[0].active[0].ranges); got != want || state.undivided() != nil {
			t.Errorf("old %v: %d computed ranges, want %d; drawn: %v", old, got, want, state.undivided() != nil)
		}
		keys := []*sortKey{key(t, int32(10)), key(t, int32(20)), key(t, int32(30)), key(t, int32(40))}
		if got := len(state.divideBy(c.ns, keys).runs[0].active[0].ranges); got != want {
			t.Errorf("old %v: %d ranges by drawn keys, want %d", old, got, want)
		}
	}
}

// Ranges that can't be read for a while are no reason to divide the others: they would
// become ever more.
func TestRangesAreAsManyAsReaders(t *testing.T) {
	_, src := real(t, Options{SnapshotChunkBytes: 4 << 10, SnapshotParallelism: 4})
	for ranges, want := range map[int]int{1: 4, 3: 4, 4: 4, 5: 5} {
		s := newSlicer(t.Context(), src, scope{}, src.opts.Logger, newLister(src))
		state, c := dividedState(t, ranges)
		for _, r := range c.ranges[1:] {
			s.failed[jobOf(c.ns, r)] = true
		}
		next := s.divide(state, &sliceResult{job: jobOf(c.ns, c.ranges[0]), ns: c.ns, rng: c.ranges[0], chunk: &snapshotChunk{}})
		if got := len(next.runs[0].active[0].ranges); got != want {
			t.Errorf("%d ranges became %d, want %d", ranges, got, want)
		}
	}
}

// The parts of a range are read at its pace, which on a slow server was found by failures.
func TestPartsAreReadAtThePaceOfTheRange(t *testing.T) {
	_, src := real(t, Options{SnapshotChunkBytes: 4 << 10, SnapshotParallelism: 4})
	s := newSlicer(t.Context(), src, scope{}, src.opts.Logger, newLister(src))
	state, c := dividedState(t, 2)
	job, other := jobOf(c.ns, c.ranges[0]), jobOf(c.ns, c.ranges[1])
	s.pace(job).limit, s.pace(job).within = 3, 40*time.Second
	s.pace(other).limit = 50
	next := s.divide(state, &sliceResult{job: job, ns: c.ns, rng: c.ranges[0], chunk: &snapshotChunk{}})
	for _, r := range next.runs[0].active[0].ranges {
		part := jobOf(c.ns, r)
		if p := s.pace(part); part == other && p.limit != 50 || part != other && (p.limit != 3 || p.within != 40*time.Second) {
			t.Errorf("a part is read with %d documents within %v", p.limit, p.within)
		}
	}
	if len(s.paces) != 4 {
		t.Errorf("%d paces, want 4", len(s.paces))
	}
}

// Collections that can't be divided are not: the order of keys of one with a collation
// isn't known, and large keys would fill the checkpoint.
func TestWhatIsNotDivided(t *testing.T) {
	w, src := real(t, Options{SnapshotChunkBytes: 1 << 10, SnapshotParallelism: 4})
	l := newLister(src)
	insert := func(name string, pad int, o ...options.Lister[options.CreateCollectionOptions]) *collectionCopy {
		if err := w.DB.CreateCollection(t.Context(), name, o...); err != nil {
			t.Fatal(err)
		}
		var all []any
		for i := range 20 {
			all = append(all, bson.D{{Key: "_id", Value: fmt.Sprintf("%d%*s", i, pad, "x")}, {Key: "pad", Value: strings.Repeat("x", 1000)}})
		}
		if _, err := w.DB.Collection(name).InsertMany(t.Context(), all); err != nil {
			t.Fatal(err)
		}
		c, _, err := l.begin(t.Context(), rigatoni.Namespace{DB: w.DB.Name(), Coll: name})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := insert("plain", 1); c.parts < 2 || c.highest == nil || c.highest.value.StringValue() != "9x" {
		t.Errorf("%d parts up to %v", c.parts, c.highest)
	}
	if c := insert("collation", 1, options.CreateCollection().SetCollation(&options.Collation{Locale: "de"})); c.parts != 0 || c.highest != nil {
		t.Errorf("with a collation: %d parts up to %v", c.parts, c.highest)
	}
	c := insert("large", 2000)
	keys, err := l.sample(t.Context(), c.ns, 10)
	if c.highest != nil || len(keys) > 0 || err != nil {
		t.Errorf("large keys: up to %v, %d bounds, %v", c.highest, len(keys), err)
	}
}

// Of a collection of large documents few are drawn: for many the server would read all.
func TestFewDocumentsAreDrawn(t *testing.T) {
	for _, c := range []struct {
		docs, bytes int64
		want        int
	}{{1e9, 1 << 40, 200}, {3000, 1 << 20, 200}, {3000, 3 << 30, 120}, {200, 3 << 30, 8}, {100, 1 << 30, 4}} {
		if got := (&collectionCopy{parts: 4, docsEstimated: c.docs, bytesEstimated: c.bytes}).samples(); got != c.want {
			t.Errorf("%d of %d documents, %d bytes; want %d", got, c.docs, c.bytes, c.want)
		}
	}
}

// Where several collections are copied at once, each has a reader already, and none is
// divided before readers have nothing to read.
func TestSeveralCollectionsAreNotAllDivided(t *testing.T) {
	const docs = 1000
	w, s := real(t, Options{SnapshotChunkBytes: 4 << 10, SnapshotParallelism: 4})
	names := []string{"a", "b", "c", "d"}
	for _, name := range names {
		var all []any
		for i := range docs {
			all = append(all, bson.D{{Key: "_id", Value: fmt.Sprint("user ", i)}, {Key: "pad", Value: strings.Repeat("x", 100)}})
		}
		if _, err := w.DB.Collection(name).InsertMany(t.Context(), all, options.InsertMany().SetOrdered(false)); err != nil {
			t.Fatal(err)
		}
	}
	st := w.open(s, "", rigatoni.Start{Snapshot: true})
	cs := st.Stream.(*copyStream)
	m, most := newMirror(t), 0
	st.copyAll(func(ev rigatoni.Event) {
		m.apply(ev)
		n := 0
		if cs.state != nil {
			for _, c := range cs.state.runs[0].active {
				n += len(c.ranges)
			}
		}
		most = max(most, n)
	})
	m.matches(w.DB, names...)
	if m.reads != len(names)*docs || most > 2*4 {
		t.Errorf("%d reads, %d ranges at most", m.reads, most)
	}
}
