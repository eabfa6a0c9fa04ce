package rigatoni_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
)

// TestExactlyOnce: into a transactional destination each event is applied exactly
// once, in the order of the stream, through crashes between any two steps, lost
// answers, late transactions, two owners at once, and refused events.
func TestExactlyOnce(t *testing.T) {
	crashes := campaign.Size(t, "RIGATONI_TX_CRASHES", 5000, 1000)
	seed := campaign.Seed(t)
	synctest.Test(t, func(t *testing.T) {
		c := newTxCampaign(seed, unchanged)
		if err := c.run(t.Context(), crashes); err != nil {
			t.Error(err)
		}
		t.Log(c.summary())
	})
}

func unchanged(c *rigatonitest.Client) rigatoni.Destination { return c }

// What a txCampaign does with the n-th event.
func isDropped(n int) bool { return n%11 == 5 } // by the transform
func isRefused(n int) bool { return n%37 == 7 } // by the database

const (
	txName = "tx"
	txTTL  = 3 * time.Second
)

// A txKind is what the pipelines of a campaign move, and how it is judged.
type txKind interface {
	append(most int)                         // has the source return up to most more events
	number(ev rigatoni.Event) int            // of an event
	configure(cfg *rigatoni.Config)          // a pipeline
	judge(ctx context.Context) error         // what is applied so far
	judgeEnd(cp state.Checkpoint) error      // what is applied, at the last checkpoint
	between(ctx context.Context) (stop bool) // two steps of the campaign; stop: all processes first
	restart(ctx context.Context) error       // after that
}

// A txCampaign runs pipelines into one database, one after the other and sometimes
// two at once, until enough of them have crashed.
type txCampaign struct {
	kind   txKind
	db     *rigatonitest.Database
	source *rigatonitest.Source
	wrap   func(*rigatonitest.Client) rigatoni.Destination
	log    *slog.Logger

	running sync.WaitGroup

	mu      sync.Mutex
	rng     *rand.Rand
	events  []bson.Timestamp // cluster times of the events of the source; the n-th has number n
	sent    int              // calls of DeliverAt so far
	letters map[int]int      // of the dead letter of event n, how many calls there had been
	gone    int              // events that the source has forgotten
	judged  int              // events of the database
	end     int              // the last event before the checkpoint that was judged last
	wrong   error            // the first thing that was
	counts  map[string]int
}

func newTxCampaign(seed uint64, wrap func(*rigatonitest.Client) rigatoni.Destination) *txCampaign {
	c := &txCampaign{
		db: rigatonitest.NewDatabase(), source: rigatonitest.NewSource(), wrap: wrap, log: slog.New(slog.DiscardHandler),
		rng: rand.New(rand.NewPCG(seed, 0)), letters: map[int]int{}, counts: map[string]int{}, events: make([]bson.Timestamp, 1),
	}
	c.kind = plainKind{c}
	if os.Getenv("RIGATONI_TX_LOG") != "" {
		c.log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return c
}

// roll is a random number below n.
func (c *txCampaign) roll(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rng.IntN(n)
}

func (c *txCampaign) count(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[what]++
}

func (c *txCampaign) summary() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprintf("%d events, %d applied, %d refused, %d transactions; %v", len(c.events)-1, c.judged, len(c.letters), c.sent, c.counts)
}

// A plainKind is a stream of inserts.
type plainKind struct{ *txCampaign }

func (plainKind) number(ev rigatoni.Event) int { return number(ev) }

func (plainKind) configure(*rigatoni.Config) {}

func (plainKind) between(context.Context) bool { return false }

func (plainKind) restart(context.Context) error { return nil }

// append gives the source up to most more events, unless there are many that are
// not delivered.
func (c plainKind) append(most int) {
	for range c.roll(most + 1) {
		c.mu.Lock()
		if len(c.events) > c.end+30 {
			c.mu.Unlock()
			return
		}
		n := len(c.events)
		ev := rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: n}, {Key: "n", Value: n}})
		c.events = append(c.events, ev.ClusterTime())
		c.mu.Unlock()
		c.source.Append(ev)
	}
}

// run runs pipelines until crashes of them have crashed, and then one that delivers the
// rest.
func (c *txCampaign) run(ctx context.Context, crashes int) error {
	var living []*txLife
	defer func() {
		for _, l := range living {
			l.crash()
		}
		c.running.Wait()
		time.Sleep(time.Minute) // what is late is over
	}()
	for n := 1; c.crashes() < crashes; n++ {
		c.kind.append(8)
		// One process more than there are; it waits for its turn.
		if len(living) == 0 || len(living) < 3 && c.roll(4) == 0 {
			l, err := c.start(ctx, n, 1+c.roll(100))
			if err != nil {
				return err
			}
			living = append(living, l)
		}
		c.live(living)
		living = slices.DeleteFunc(living, func(l *txLife) bool { return l.isOver() })
		if err := c.kind.judge(ctx); err != nil {
			return err
		}
		if c.kind.between(ctx) {
			for _, l := range living {
				l.crash()
			}
			living = nil
			c.running.Wait()
			time.Sleep(time.Minute) // what is late is over, and the lease too
			if err := c.kind.restart(ctx); err != nil {
				return err
			}
		}
	}
	for _, l := range living {
		l.crash()
	}
	return c.finish(ctx)
}

func (c *txCampaign) crashes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts["crashed"]
}

// live lets the processes work until one crashes or ends, or for a while.
func (c *txCampaign) live(living []*txLife) {
	time.Sleep(time.Duration(c.roll(1500)) * time.Millisecond)
	c.kind.append(4)
	oldest, while := living[0], time.After(time.Duration(c.roll(10_000))*time.Millisecond)
	select {
	case <-oldest.crashed:
	case <-oldest.ended:
	case <-while:
		switch c.roll(8) {
		case 0:
			oldest.stop()
			<-oldest.ended
			c.count("stopped")
		case 1:
			oldest.crash()
		}
	}
}

// finish has a last process deliver all that is left.
func (c *txCampaign) finish(ctx context.Context) error {
	l, err := c.start(ctx, -1, 0)
	if err != nil {
		return err
	}
	select {
	case <-l.ended:
		return fmt.Errorf("the last pipeline ended: %w", l.err)
	case <-time.After(time.Hour):
	}
	l.stop()
	<-l.ended
	if l.err != nil {
		return fmt.Errorf("the last pipeline's end: %w", l.err)
	}
	if err := c.kind.judge(ctx); err != nil {
		return err
	}
	cp, err := c.db.Checkpoints().Load(ctx, txName)
	if err != nil {
		return err
	}
	if at, last := c.before(cp), len(c.events)-1; at != last {
		return fmt.Errorf("the last checkpoint is after event %d, and there are %d", at, last)
	}
	return c.kind.judgeEnd(cp)
}

func (c plainKind) judgeEnd(state.Checkpoint) error { return c.contradictions(c.db.Events()) }

func (c *txCampaign) contradictions(events []rigatoni.Event) error {
	for _, ev := range events {
		if err := c.contradiction(ev); err != nil {
			return err
		}
	}
	return nil
}

// before is the number of the last event before a checkpoint.
func (c *txCampaign) before(cp state.Checkpoint) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, err := cp.Token.Decode()
	if err != nil {
		panic(err)
	}
	n, found := slices.BinarySearchFunc(c.events[1:], d.ClusterTime, bson.Timestamp.Compare)
	if found && !d.HighWaterMark {
		n++
	}
	return n
}

// judge compares what is applied with the checkpoint: it is exactly what comes
// before it, in order, but for what was dropped or refused.
func (c plainKind) judge(ctx context.Context) error {
	var (
		rows []rigatoni.Event
		cp   state.Checkpoint
		err  error
	)
	for stable := false; !stable; { // a transaction may come between the two
		rows = c.db.Events()
		cp, err = c.db.Checkpoints().Load(ctx, txName)
		stable = len(c.db.Events()) == len(rows)
	}
	if errors.Is(err, state.ErrNotFound) && len(rows) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	last := 0
	if c.judged > 0 {
		last = number(rows[c.judged-1])
	}
	end := c.before(cp)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ev := range rows[c.judged:] {
		n := number(ev)
		if n <= last {
			return fmt.Errorf("event %d is applied after event %d", n, last)
		}
		if err := c.skipped(last, n); err != nil {
			return fmt.Errorf("before event %d: %w", n, err)
		}
		if isDropped(n) || isRefused(n) {
			return fmt.Errorf("event %d is applied, and should not be", n)
		}
		if err := c.contradiction(ev); err != nil {
			return err
		}
		last = n
	}
	if last > end {
		return fmt.Errorf("event %d is applied, and the checkpoint is after event %d", last, end)
	}
	if err := c.skipped(last, end+1); err != nil {
		return fmt.Errorf("the checkpoint is after event %d: %w", end, err)
	}
	c.judged, c.end = len(rows), end
	if n := end - 100; n > c.gone { // a process that is behind has them in hand
		c.source.Forget(n - c.gone)
		c.gone = n
	}
	return c.wrong
}

// contradiction reports an event that was applied by a transaction that had been
// sent when it became a dead letter. (One that is sent later is another matter: a
// crash before the next checkpoint repeats the decision.)
func (c *txCampaign) contradiction(ev rigatoni.Event) error {
	n := c.kind.number(ev)
	if at, ok := c.letters[n]; ok && int(ev.Raw.Lookup("sent").Int32()) <= at {
		return fmt.Errorf("event %d is applied, and a dead letter too", n)
	}
	return nil
}

// skipped checks that the events between two numbers needed no delivery.
func (c *txCampaign) skipped(after, before int) error {
	for n := after + 1; n < before; n++ {
		if _, refused := c.letters[n]; !isDropped(n) && !refused {
			return fmt.Errorf("event %d is not applied", n)
		}
	}
	return nil
}
