package rigatoni_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
)

// TestExactlyOnceWithACopy: while a collection is copied, once and again, each document that is
// read and each change takes effect exactly once in a transactional destination, in the order of
// the document's versions, through the crashes of TestExactlyOnce.
func TestExactlyOnceWithACopy(t *testing.T) {
	crashes := campaign.Size(t, "RIGATONI_TX_CRASHES", 5000, 400)
	seed := campaign.Seed(t)
	synctest.Test(t, func(t *testing.T) {
		c, k := newCopyCampaign(seed, unchanged)
		if err := c.run(t.Context(), crashes); err != nil {
			t.Error(err)
		}
		t.Log(c.summary(), k.summary())
		if k.copies.Load() < 3 || k.reads < 100 || len(c.db.Sweeps()) < int(k.copies.Load())-1 {
			t.Errorf("%s, and %d sweeps: too few", k.summary(), len(c.db.Sweeps()))
		}
	})
}

// A copyKind is a collection that is copied again and again, and changes. The number of a
// change is its place in the log; that of a document that is read is far larger, and another
// one in each copy.
type copyKind struct {
	*txCampaign
	docs   map[int]*copiedDoc
	copies atomic.Int32 // begun
	reads  int          // applied
	began  int          // of the events of the database, the first of this copy
}

// A copiedDoc is what is known of a document.
type copiedDoc struct {
	id      int
	changes []docChange
	next    int  // the first of changes that was not applied
	fixed   bool // every change is applied from now on
	read    bool // in this copy
	now     int  // what a mirror has: the number of a change, 0 for nothing
}

type docChange struct{ number, value int }

const copyNS = "shop.orders"

func newCopyCampaign(seed uint64, wrap func(*rigatonitest.Client) rigatoni.Destination) (*txCampaign, *copyKind) {
	c := newTxCampaign(seed, wrap)
	k := &copyKind{txCampaign: c, docs: map[int]*copiedDoc{}}
	k.copies.Store(1)
	c.kind = k
	c.source.SnapshotChunk = 3
	c.events = append(c.events, bson.Timestamp{}) // change 1 made what exists at the beginning
	for id := 1; id <= 60; id++ {
		c.source.Populate(copyNS, doc(id, 1))
		k.docs[id] = &copiedDoc{id: id, changes: []docChange{{1, 1}}}
	}
	return c, k
}

func (k *copyKind) summary() string {
	return fmt.Sprintf("%d copies of %d documents, %d reads", k.copies.Load(), len(k.docs), k.reads)
}

func (k *copyKind) configure(cfg *rigatoni.Config) { cfg.Snapshot = "initial" }

func (k *copyKind) number(ev rigatoni.Event) int {
	n := number64(ev)
	if ev.IsSnapshot() {
		id, _ := ev.DocumentKey().Lookup("_id").AsInt64OK()
		return k.readNumber(int(id), int(n))
	}
	return int(n)
}

// readNumber is the number of a document that is read in this copy.
func (k *copyKind) readNumber(id, value int) int {
	return (1000*int(k.copies.Load())+id)*1_000_000 + value
}

// number64 is the number of a change, or of the one that made the document that is read.
func number64(ev rigatoni.Event) int64 {
	n, ok := ev.FullDocument().Lookup("n").AsInt64OK()
	if !ok {
		n, _ = ev.Raw.Lookup("n").AsInt64OK()
	}
	return n
}

func (d *copiedDoc) truth() int {
	if len(d.changes) == 0 {
		return 0
	}
	return d.changes[len(d.changes)-1].value
}

func (k *copyKind) append(most int) {
	for range k.roll(most + 1) {
		k.mu.Lock()
		if len(k.events) > k.end+60 {
			k.mu.Unlock()
			return
		}
		id := 1 + k.rng.IntN(len(k.docs)+1) // the last one is new
		if k.docs[id] == nil {
			k.docs[id] = &copiedDoc{id: id}
		}
		d, n := k.docs[id], len(k.events)
		ev, value := rigatonitest.Replace(copyNS, doc(id, n)), n
		switch {
		case d.truth() == 0:
			ev = rigatonitest.Insert(copyNS, doc(id, n))
		case k.rng.IntN(5) == 0:
			ev, value = rigatonitest.With(rigatonitest.Delete(copyNS, id), "n", n), 0
		}
		d.changes = append(d.changes, docChange{n, value})
		k.events = append(k.events, ev.ClusterTime())
		k.mu.Unlock()
		k.source.Append(ev)
	}
}

func (k *copyKind) judge(ctx context.Context) error {
	rows := k.db.Events()
	cp, err := k.db.Checkpoints().Load(ctx, txName)
	if errors.Is(err, state.ErrNotFound) && len(rows) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	end := k.before(cp)
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, ev := range rows[k.judged:] {
		id, _ := ev.DocumentKey().Lookup("_id").AsInt64OK()
		if err := k.take(k.docs[int(id)], ev); err != nil {
			return fmt.Errorf("document %d, copy %d, %s: %w", id, k.copies.Load(), eventText(ev), err)
		}
		if err := k.contradiction(ev); err != nil {
			return err
		}
	}
	k.judged, k.end = len(rows), end
	if n := end - 100; n > k.gone { // a process that is behind has them in hand
		k.source.Forget(n - k.gone)
		k.gone = n
	}
	return k.wrong
}

// take applies an event to what is known of its document.
func (k *copyKind) take(d *copiedDoc, ev rigatoni.Event) error {
	n := int(number64(ev))
	at := d.next
	for at < len(d.changes) && d.changes[at].number != n {
		at++
	}
	switch {
	case isDropped(k.number(ev)) || isRefused(k.number(ev)):
		return errors.New("it should not be applied")
	case ev.IsSnapshot() && d.read:
		return errors.New("it was read before in this copy")
	case ev.IsSnapshot() && d.next > 0 && d.changes[d.next-1].number == n:
		d.read, d.fixed, d.now = true, true, n // as it is
		k.reads++
		return nil
	case at == len(d.changes):
		return fmt.Errorf("a later change, %+v, was applied before", d.changes[d.next-1])
	}
	if d.fixed {
		for _, c := range d.changes[d.next:at] {
			if _, refused := k.letters[c.number]; !refused && !isDropped(c.number) {
				return fmt.Errorf("change %d is not applied", c.number)
			}
		}
	}
	if ev.IsSnapshot() {
		d.read = true
		k.reads++
	}
	d.next, d.now = at+1, d.changes[at].value
	d.fixed = d.read || k.copies.Load() > 1 // the first copy leaves out changes of what it has not read
	return nil
}

// between has the collection copied again, some time after the last copy has ended.
func (k *copyKind) between(ctx context.Context) bool {
	cp, err := k.db.Checkpoints().Load(ctx, txName)
	return err == nil && len(cp.Extra[rigatoni.ExtraSnapshot]) == 0 && k.roll(3) == 0
}

func (k *copyKind) restart(ctx context.Context) error {
	if err := k.judge(ctx); err != nil {
		return err
	}
	cp, err := k.db.Checkpoints().Load(ctx, txName)
	if err != nil {
		return err
	}
	if len(cp.Extra[rigatoni.ExtraSnapshot]) > 0 {
		return errors.New("a copy that had ended has not ended")
	}
	if err := k.complete(k.before(cp)); err != nil {
		return err
	}
	token, err := cp.Token.ExtJSON()
	if err != nil {
		return err
	}
	cp.Extra = map[string]json.RawMessage{rigatoni.ExtraSnapshot: json.RawMessage(fmt.Sprintf(
		`{"again":true,"began":%s,"began_at":"2026-01-01T00:00:00Z","collections":[{"ns":%q,"next":0}],"all":1,"documents":0,"estimated":0}`, token, copyNS))}
	cp.Sequence++
	if err := k.db.Checkpoints().Save(ctx, txName, cp); err != nil {
		return err
	}
	if err := k.contradictions(k.db.Events()[k.began:]); err != nil {
		return err
	}
	k.began = k.judged
	k.copies.Add(1)
	for _, d := range k.docs {
		d.read = false
	}
	return nil
}

func (k *copyKind) judgeEnd(cp state.Checkpoint) error {
	if doc := cp.Extra[rigatoni.ExtraSnapshot]; len(doc) > 0 {
		return fmt.Errorf("the last copy has not ended: %s", doc)
	}
	if err := k.contradictions(k.db.Events()[k.began:]); err != nil {
		return err
	}
	return k.complete(len(k.events) - 1)
}

// complete checks that a mirror has all documents as they were after a change, but for what was
// dropped or refused.
func (k *copyKind) complete(end int) error {
	for id, d := range k.docs {
		var last docChange
		for _, c := range d.changes {
			if c.number <= end {
				last = c
			}
		}
		read := k.readNumber(id, last.value)
		_, refused := k.letters[last.number]
		_, readRefused := k.letters[read]
		if d.now != last.value && !refused && !isDropped(last.number) && !readRefused && !isDropped(read) {
			return fmt.Errorf("document %d is %d in the database after copy %d, and %d after change %d", id, d.now, k.copies.Load(), last.value, end)
		}
	}
	return nil
}
