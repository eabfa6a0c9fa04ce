package rigatoni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// letterBox keeps dead letters.
type letterBox struct {
	mu   sync.Mutex
	got  []DeadLetter
	errs []error
}

func (b *letterBox) Put(_ context.Context, l DeadLetter) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.errs) > 0 {
		err := b.errs[0]
		b.errs = b.errs[1:]
		return err
	}
	b.got = append(b.got, l)
	return nil
}

func (b *letterBox) numbers() (ns []int) {
	for _, l := range b.got {
		ns = append(ns, number(l.Event))
	}
	return ns
}

// A destination that is closed refuses no event: the pipeline stops, whatever the
// policy, with what was delivered before saved.
func TestDestinationClosed(t *testing.T) {
	bubble(t, "no dead letter", func(t *testing.T) {
		r, box := newRig(t, newFakeSource(batch(1, 9))), &letterBox{}
		r.cfg.DeadLetters, r.cfg.MaxAttempts = box, 1
		r.sink.deliver = func(_ context.Context, b *Batch) error {
			r.sink.record(b.Events[:4])
			return Partial(4, Permanent(fmt.Errorf("broken pipe: %w", ErrDestinationClosed)))
		}
		r.start()
		err := <-r.ended
		if !errors.Is(err, ErrDestinationClosed) || errors.As(err, new(*RefusedError)) {
			t.Errorf("Run returned %v", err)
		}
		if token, _ := event(4).Token(); r.saved().Token != token || len(box.got) > 0 {
			t.Errorf("saved %v; dead letters %v", r.saved(), box.numbers())
		}
	})
}

func TestRefused(t *testing.T) {
	bad := errors.New("not this one")
	// wholeBatch is a sink that fails as a whole, without a word on which event.
	wholeBatch := func(r *rig, isBad func(int) error) Destination {
		return destFunc(func(_ context.Context, b *Batch) error {
			for _, ev := range b.Events {
				if err := isBad(number(ev)); err != nil {
					return err
				}
			}
			r.sink.record(b.Events)
			return nil
		})
	}
	five := func(err error) func(int) error {
		return func(n int) error {
			if n == 5 {
				return err
			}
			return nil
		}
	}
	for name, c := range map[string]struct {
		err      error
		attempts int
		max      int
	}{
		"Permanent":   {Permanent(bad), 2, 0}, // in the batch, and alone
		"MaxAttempts": {bad, 6, 3},
	} {
		bubble(t, "a batch is delivered event by event, and the one to blame is named: "+name, func(t *testing.T) {
			r := newRig(t, newFakeSource(batch(1, 9)))
			r.cfg.Destination, r.cfg.MaxAttempts = wholeBatch(r, five(c.err)), c.max
			r.start()
			err := <-r.ended
			var refused *RefusedError
			if !errors.As(err, &refused) || number(refused.Event) != 5 || refused.Attempts != c.attempts || !errors.Is(err, bad) {
				t.Fatalf("Run returned %v", err)
			}
			if !contains(err, `documentKey {"_id":5}`, "insert in shop.orders", "cluster time 1000.5") {
				t.Errorf("the error is %v", err)
			}
			wantNumbers(t, r.sink.delivered(), 1, 4)
			r.wantSaved(at(4))
		})
		bubble(t, "dead letters: the pipeline continues without it: "+name, func(t *testing.T) {
			r := newRig(t, newFakeSource(batch(1, 9)))
			box := &letterBox{errs: []error{errors.New("the disk is full"), nil}}
			box.errs = box.errs[:1]
			r.cfg.Destination, r.cfg.MaxAttempts, r.cfg.DeadLetters = wholeBatch(r, five(c.err)), c.max, box
			var hooked []int
			r.cfg.Hooks.Refused = func(l DeadLetter) { hooked = append(hooked, number(l.Event)) }
			r.start()
			r.sink.wait(t, 8)
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
			if got := r.sink.delivered(); !slices.Equal(got, []int{1, 2, 3, 4, 6, 7, 8, 9}) {
				t.Errorf("delivered %v", got)
			}
			r.wantSaved(at(9))
			if len(box.got) != 1 || !slices.Equal(hooked, []int{5}) {
				t.Fatalf("dead letters %v, hooked %v", box.numbers(), hooked)
			}
			l := box.got[0]
			if number(l.Event) != 5 || l.Attempts != c.attempts || !errors.Is(l.Err, bad) || l.Position != at(5) || l.Key != "shop" || l.At.IsZero() {
				t.Errorf("the dead letter is %+v", l)
			}
			if s := r.p.Status()[0]; s.DeadLetters != 1 {
				t.Errorf("the status is %+v", s)
			}
		})
	}
	bubble(t, "a dead letter is durable before the checkpoint covers its event", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 9)))
		full := errors.New("the disk is full")
		box := &letterBox{}
		for range 1000 {
			box.errs = append(box.errs, full)
		}
		r.cfg.Destination, r.cfg.DeadLetters = wholeBatch(r, five(Permanent(bad))), box
		r.start()
		r.sink.wait(t, 4)
		time.Sleep(time.Minute)
		r.wantSaved(at(4))
		if err := r.end(); !errors.Is(err, ErrUndelivered) {
			t.Errorf("Run returned %v", err)
		}
	})
	bubble(t, "a Func's event is refused alone, in the middle of a batch, and is not called again", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 9)))
		box, calls := &letterBox{}, map[int]int{}
		r.cfg.DeadLetters = box
		r.cfg.Destination = Func(func(_ context.Context, ev Event) error {
			calls[number(ev)]++
			return map[bool]error{true: Permanent(bad)}[number(ev)%3 == 0]
		})
		r.start()
		<-r.p.Ready()
		for r.p.Status()[0].DeadLetters < 3 {
			time.Sleep(time.Millisecond)
		}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(box.numbers(), []int{3, 6, 9}) {
			t.Errorf("dead letters %v", box.numbers())
		}
		for n, c := range calls {
			if c != 1 {
				t.Errorf("event %d was tried %d times", n, c)
			}
		}
	})
	bubble(t, "a failed delivery logs the event, once, and when it is over", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 1)))
		var log logCatcher
		r.cfg.Logger = log.logger()
		r.cfg.Destination = Func(func(ctx context.Context, ev Event) error {
			if Attempt(ctx) <= 20 {
				return bad
			}
			r.sink.record([]Event{ev})
			return nil
		})
		r.start()
		r.sink.wait(t, 1)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		log.want(t, "delivery failed; retrying", "namespace=shop.orders", `document_key="{\"_id\":1}"`, "cluster_time=1000.1", "attempt=1 ", "retry_in_seconds=")
		if n := log.count("delivery failed"); n != 5 { // 1, 2, 4, 8, 16
			t.Errorf("%d lines for 20 failures", n)
		}
		log.want(t, "delivery succeeded", "attempts=21")
		if log.count("opaque-") > 0 && log.count("opaque-", "streaming") != log.count("opaque-") {
			t.Error("a log line has the contents of a token")
		}
	})
	bubble(t, "Attempt counts from 1 for each event", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 4)))
		var got []string
		r.cfg.Destination = Func(func(ctx context.Context, ev Event) error {
			got = append(got, fmt.Sprintf("%d/%d", number(ev), Attempt(ctx)))
			if number(ev) == 2 && Attempt(ctx) < 3 {
				return bad
			}
			r.sink.record([]Event{ev})
			return nil
		})
		r.start()
		r.sink.wait(t, 4)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if want := "[1/1 2/1 2/2 2/3 3/3 4/3]"; fmt.Sprint(got) != want {
			t.Errorf("got %v, want %s", got, want)
		}
		if Attempt(t.Context()) != 0 {
			t.Error("a context of no delivery has an attempt")
		}
	})
	bubble(t, "Permanent beside an ended context is no refusal", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 1)))
		box := &letterBox{}
		r.cfg.DeadLetters, r.cfg.GraceTime = box, time.Second
		in := make(chan struct{})
		r.cfg.Destination = Func(func(ctx context.Context, _ Event) error {
			close(in)
			<-ctx.Done()
			return Permanent(ctx.Err())
		})
		r.start()
		<-in
		if err := r.end(); !errors.Is(err, ErrUndelivered) || errors.As(err, new(*RefusedError)) {
			t.Errorf("Run returned %v", err)
		}
		if len(box.got) > 0 {
			t.Error("an event was taken for refused because the pipeline stopped")
		}
	})
	bubble(t, "Permanent together with a failing Sync stops", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3)))
		full := errors.New("the disk is full")
		r.sink.deliver = func(_ context.Context, b *Batch) error { return Partial(2, Permanent(bad)) }
		r.sink.syncErr = func() error { return full }
		r.cfg.Destination, r.cfg.SaveInterval = syncSink{r.sink}, time.Hour
		r.start()
		if err := <-r.ended; !errors.As(err, new(*RefusedError)) || !errors.Is(err, full) {
			t.Errorf("Run returned %v", err)
		}
		if n := r.p.Status()[0].Rewinds; n != 0 {
			t.Errorf("%d rewinds", n)
		}
	})
	bubble(t, "a progress report that can't be true stops", func(t *testing.T) {
		for _, n := range []int{-1, 4} {
			r := newRig(t, newFakeSource(batch(1, 3)))
			r.cfg.Destination = destFunc(func(_ context.Context, b *Batch) error { b.Done(n); return nil })
			r.start()
			if err := <-r.ended; err == nil || !contains(err, "of 3 events are delivered") {
				t.Errorf("Done(%d): %v", n, err)
			}
			r.wantSaved(r.src.origin)
		}
	})
}

// An event that the source can't return has the policy of one that is refused.
func TestUnreadable(t *testing.T) {
	bad := errors.New("larger than the server can send")
	source := func() *fakeSource {
		return newFakeSource(batch(1, 4), chunk{err: &UnreadableError{Event: event(5), Err: bad}, end: at(4)}, batch(6, 9))
	}
	bubble(t, "without dead letters it stops the pipeline, and what is before it is delivered and saved", func(t *testing.T) {
		r := newRig(t, source())
		r.start()
		if err := <-r.ended; !errors.Is(err, bad) {
			t.Errorf("Run returned %v", err)
		}
		wantNumbers(t, r.sink.delivered(), 1, 4)
		r.wantSaved(at(4))
	})
	bubble(t, "with dead letters it is written there, and the pipeline continues", func(t *testing.T) {
		r := newRig(t, source())
		box := &letterBox{errs: []error{errors.New("full")}}
		r.cfg.DeadLetters = box
		r.cfg.Transform = func(_ context.Context, ev Event) (Event, bool, error) {
			if number(ev) == 5 {
				t.Error("what could not be read is transformed")
			}
			return ev, true, nil
		}
		r.start()
		r.sink.wait(t, 8)
		if err := r.end(); err != nil {
			t.Errorf("Run returned %v", err)
		}
		if got := r.sink.delivered(); len(got) != 8 || got[4] != 6 {
			t.Errorf("delivered %v", got)
		}
		if len(box.got) != 1 || number(box.got[0].Event) != 5 || !errors.Is(box.got[0].Err, bad) || box.got[0].Position != at(5) {
			t.Errorf("dead letters %v", box.got)
		}
		r.wantSaved(at(9))
	})
	bubble(t, "it moves the checkpoint by itself", func(t *testing.T) {
		r := newRig(t, newFakeSource(chunk{err: &UnreadableError{Event: event(5), Err: bad}}))
		box := &letterBox{}
		r.cfg.DeadLetters = box
		r.start()
		synctest.Wait()
		if err := r.end(); err != nil {
			t.Errorf("Run returned %v", err)
		}
		r.wantSaved(at(5))
	})
}

// Names come from a database: what writes them into messages must not write to a
// terminal, or forge a line of a log.
func TestMessagesQuoteNames(t *testing.T) {
	raw, err := bson.Marshal(bson.D{
		{Key: "operationType", Value: "insert"}, {Key: "ns", Value: bson.D{{Key: "db", Value: "shop"}, {Key: "coll", Value: "a\x1b[2J\nlevel=ERROR"}}},
		{Key: "documentKey", Value: bson.D{{Key: "_id", Value: "\u009b2J\u202e" + strings.Repeat("ü", 200)}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		&RefusedError{Event: Event{Raw: raw}, Err: errors.New("no")},
		&ChangedStreamError{Changes: []string{"collections: a\x1b[2J → b"}},
	} {
		if text := err.Error(); strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || !utf8.ValidString(text) {
			t.Errorf("%q", text)
		}
	}
}

func TestTransform(t *testing.T) {
	doc := func(v any) bson.Raw {
		raw, err := bson.Marshal(v)
		if err != nil {
			panic(err)
		}
		return raw
	}
	bubble(t, "events are changed and dropped, positions stay", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 9), batch(10, 20)))
		r.cfg.Transform = func(_ context.Context, ev Event) (Event, bool, error) {
			n := number(ev)
			raw := doc(bson.D{{Key: "_id", Value: "mine"}, {Key: "clusterTime", Value: bson.Timestamp{T: 1, I: uint32(100 + n)}}})
			if n%4 == 0 {
				return Event{Raw: raw}, true, nil // without With
			}
			return ev.With(raw), n%2 == 0, nil
		}
		r.start()
		r.sink.wait(t, 10)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if got := r.sink.delivered(); !slices.Equal(got, []int{102, 104, 106, 108, 110, 112, 114, 116, 118, 120}) {
			t.Errorf("delivered %v", got)
		}
		r.wantSaved(at(20))
		size := len(doc(bson.D{{Key: "_id", Value: "mine"}, {Key: "clusterTime", Value: bson.Timestamp{}}}))
		if s := r.p.Status()[0]; s.Dropped != 10 || s.Events != 10 || s.Bytes != uint64(10*size) {
			t.Errorf("the status is %+v", s)
		}
	})
	bubble(t, "a stream of which everything is dropped is saved all the same", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 9)))
		r.cfg.Transform = func(context.Context, Event) (Event, bool, error) { return Event{}, false, nil }
		r.start()
		time.Sleep(3 * time.Second)
		r.wantSaved(at(9))
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	})
	for name, fail := range map[string]func(ctx context.Context) error{
		"an error that passes": func(ctx context.Context) error {
			if Attempt(ctx) < 4 {
				return errors.New("not now")
			}
			return nil
		},
		"a panic that passes": func(ctx context.Context) error {
			if Attempt(ctx) < 4 {
				panic("oops")
			}
			return nil
		},
	} {
		bubble(t, name+" is retried, and the events before it are delivered", func(t *testing.T) {
			r := newRig(t, newFakeSource(batch(1, 9)))
			r.cfg.RetryMin, r.cfg.RetryMax = time.Minute, time.Minute
			r.cfg.Transform = func(ctx context.Context, ev Event) (Event, bool, error) {
				if number(ev) == 5 {
					return ev, true, fail(ctx)
				}
				if Attempt(ctx) != 1 {
					t.Errorf("event %d, attempt %d", number(ev), Attempt(ctx))
				}
				return ev, true, nil
			}
			r.start()
			time.Sleep(20 * time.Second)
			wantNumbers(t, r.sink.delivered(), 1, 4)
			r.sink.wait(t, 9)
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
			wantNumbers(t, r.sink.delivered(), 1, 9)
		})
	}
	bubble(t, "what it refuses is a dead letter, or stops", func(t *testing.T) {
		for _, box := range []*letterBox{{}, nil} {
			r := newRig(t, newFakeSource(batch(1, 9)))
			if box != nil {
				r.cfg.DeadLetters = box
			}
			r.cfg.Transform = func(_ context.Context, ev Event) (Event, bool, error) {
				if number(ev) == 5 {
					return Event{}, true, nil
				}
				return ev, true, nil
			}
			r.start()
			if box == nil {
				var refused *RefusedError
				if err := <-r.ended; !errors.As(err, &refused) || number(refused.Event) != 5 || !strings.Contains(err.Error(), "without contents") {
					t.Errorf("Run returned %v", err)
				}
				r.wantSaved(at(4))
				continue
			}
			r.sink.wait(t, 8)
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(box.numbers(), []int{5}) || len(r.sink.delivered()) != 8 {
				t.Errorf("dead letters %v, delivered %v", box.numbers(), r.sink.delivered())
			}
			r.wantSaved(at(9))
		}
	})
	bubble(t, "one that hangs is abandoned at a stop", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 9)))
		r.cfg.GraceTime = time.Second
		hang, in := make(chan struct{}), make(chan struct{})
		r.cfg.Transform = func(_ context.Context, ev Event) (Event, bool, error) {
			close(in)
			<-hang
			runtime.Goexit()
			return ev, true, nil
		}
		defer close(hang)
		r.start()
		<-in
		begin := time.Now()
		if err := r.end(); !errors.Is(err, ErrUndelivered) || !errors.Is(err, ErrDeliveryHung) {
			t.Errorf("Run returned %v", err)
		}
		if took := time.Since(begin); took > 3*time.Second {
			t.Errorf("stopped after %v", took)
		}
	})
}

// committer is a syncSink that acts on what is saved.
type committer struct {
	syncSink
	saved  func() string
	calls  *atomic.Int32
	errors chan error
}

func (c committer) Open(context.Context, Opening) (Sink, error) { return c, nil }

func (c committer) Committed(_ context.Context, doc json.RawMessage) error {
	if got := c.saved(); got != string(doc) {
		return Permanent(fmt.Errorf("Committed(%s), and %s is saved", doc, got))
	}
	c.calls.Add(1)
	select {
	case err := <-c.errors:
		return err
	default:
		return nil
	}
}

func TestCommitter(t *testing.T) {
	bubble(t, "is called after each save, and its error goes back to the checkpoint", func(t *testing.T) {
		r := newRig(t, newFakeSource(batch(1, 3)))
		c := committer{syncSink{r.sink}, func() string { return string(r.saved().Extra["destination"]) }, new(atomic.Int32), make(chan error, 1)}
		c.errors <- errors.New("can't rename")
		r.cfg.Destination = c
		r.start()
		r.sink.wait(t, 3)
		time.Sleep(5 * time.Second)
		if n, s := c.calls.Load(), r.p.Status()[0]; n != 1 || s.Rewinds != 1 {
			t.Errorf("called %d times, status %+v", n, s)
		}
		r.src.add(batch(4, 5))
		r.sink.wait(t, 5)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, r.sink.delivered(), 1, 5)
		if n := c.calls.Load(); n != 2 {
			t.Errorf("called %d times", n)
		}
	})
}
