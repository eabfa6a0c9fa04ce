package snapcheck

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// A Collection is one that a load writes to.
type Collection struct {
	Name string
	// Docs are the documents that it has before the copy begins.
	Docs int
	// Size of a document is about 2^Size bytes.
	Size int
	// Large documents, the last ones of Docs that are numbers, have 2^LargeSize bytes.
	Large, LargeSize int
	Collation        *options.Collation
	// Calm: it is neither dropped nor renamed.
	Calm bool
}

// A Load writes at random.
type Load struct {
	DB          *mongo.Database
	Collections []Collection
	Seed        uint64
	// Writers write at once, and each pauses for a random time of about Pause.
	Writers int
	Pause   time.Duration
	// Transactions: nothing is written outside of a transaction.
	Transactions bool
	// Upheaval is about how often a collection is dropped or renamed; 0: never.
	Upheaval time.Duration
	// Away is the name that collections are renamed to, and come back from unless
	// OneWay is set.
	Away   string
	OneWay bool

	n     atomic.Int64 // of the last stamp
	acked sync.Map     // Stamp → struct{}
	done  [6]atomic.Int64
}

// The operations that are counted.
const (
	inserts = iota
	updates
	replaces
	deletes
	transactions
	upheavals
)

// String counts what was written.
func (l *Load) String() string {
	return fmt.Sprintf("%d inserts, %d updates, %d replacements, %d deletes, %d transactions, %d drops and renames",
		l.done[inserts].Load(), l.done[updates].Load(), l.done[replaces].Load(), l.done[deletes].Load(), l.done[transactions].Load(), l.done[upheavals].Load())
}

func (l *Load) stamp(size int) Stamp { return stampOf(l.n.Add(1), size) }

func (l *Load) coll(name string) *mongo.Collection {
	return l.DB.Collection(name, options.Collection().SetWriteConcern(writeconcern.Majority()))
}

// size is that of a slot's document.
func (c Collection) size(slot int) int {
	if slot < c.Docs && slot >= c.Docs-c.Large*11 && slot%11 < 1 {
		return c.LargeSize
	}
	return c.Size
}

// Fill writes the documents that are there before the copy.
func (l *Load) Fill(ctx context.Context) error {
	for _, c := range l.Collections {
		var o []options.Lister[options.CreateCollectionOptions]
		if c.Collation != nil {
			o = append(o, options.CreateCollection().SetCollation(c.Collation))
		}
		if err := l.DB.CreateCollection(ctx, c.Name, o...); err != nil {
			return err
		}
		var docs []any
		for slot := range c.Docs {
			docs = append(docs, l.stamp(c.size(slot)).document(idOf(slot, slot)))
			if len(docs) == 5000 || slot == c.Docs-1 {
				if _, err := l.coll(c.Name).InsertMany(ctx, docs, options.InsertMany().SetOrdered(false)); err != nil {
					return fmt.Errorf("fill %s: %w", c.Name, err)
				}
				docs = docs[:0]
			}
		}
	}
	return nil
}

// Run writes until ctx ends. Errors of writes are ignored: what was written shows on
// the timeline.
func (l *Load) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for i := range l.Writers {
		w := &writer{load: l, rng: rand.New(rand.NewPCG(l.Seed, uint64(i)+2))}
		wg.Go(func() { w.run(ctx, l.Pause, w.write) })
	}
	if l.Upheaval > 0 {
		w := &writer{load: l, rng: rand.New(rand.NewPCG(l.Seed, 1))}
		wg.Go(func() { w.run(ctx, l.Upheaval, w.upheave) })
	}
	wg.Wait()
}

// End writes the last document, and returns its stamp.
func (l *Load) End(ctx context.Context) (Stamp, error) {
	s := l.stamp(5)
	for {
		_, err := l.coll(l.Collections[0].Name).InsertOne(ctx, s.document(fmt.Sprintf("the end %d", s)))
		if err == nil || ctx.Err() != nil || mongo.IsDuplicateKeyError(err) {
			return s, errors.Join(ctx.Err())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Verify checks that the timeline has every write that was acknowledged, and that it
// ends where the collections do.
func (l *Load) Verify(ctx context.Context, t *Timeline) error {
	var wrong error
	l.acked.Range(func(s, _ any) bool {
		if !t.Has(s.(Stamp)) {
			wrong = fmt.Errorf("snapcheck: write %d was acknowledged and is not on the timeline", s)
		}
		return wrong == nil
	})
	if wrong != nil {
		return wrong
	}
	names, err := l.DB.ListCollectionNames(ctx, bson.D{})
	if err != nil {
		return err
	}
	live := 0
	for _, name := range names {
		n, err := t.compare(ctx, l.DB.Collection(name))
		if err != nil {
			return err
		}
		live += n
	}
	if want := t.live(); live != want {
		return fmt.Errorf("snapcheck: the server has %d documents at the end, and the timeline %d", live, want)
	}
	return nil
}

// live is how many documents there are at the end.
func (t *Timeline) live() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, docs := range t.docs {
		for _, h := range docs {
			if h.live() {
				n++
			}
		}
	}
	return n
}

// compare compares the documents of a collection with those at the end of the timeline.
func (t *Timeline) compare(ctx context.Context, coll *mongo.Collection) (n int, err error) {
	cur, err := coll.Find(ctx, bson.D{}, options.Find().SetHint(bson.D{{Key: "_id", Value: 1}}))
	if err != nil {
		return 0, err
	}
	defer cur.Close(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	for ; cur.Next(ctx); n++ {
		h := t.docs[coll.Name()][keyOf(cur.Current.Lookup("_id"))]
		if !h.live() || h.changes[len(h.changes)-1].stamp != stampIn(cur.Current) || !intact(cur.Current) {
			return 0, fmt.Errorf("snapcheck: the server's %s %s is not what the timeline ends with", coll.Name(), cur.Current.Lookup("_id"))
		}
	}
	return n, cur.Err()
}
