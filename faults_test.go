package rigatoni_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/mongotest"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

func ownServers(t *testing.T, test func(*testing.T, *testserver.Server)) {
	t.Helper()
	testserver.BothOwn(t, mongod.Options{}, test)
}

func ownMongod(t *testing.T) *testserver.Server {
	t.Helper()
	return testserver.OwnMongod(t, mongod.Options{})
}

// passing are faults that a pipeline lives through. Each waits until it has struck.
var passing = map[string]func(*faultRig){
	"cursors killed": func(r *faultRig) {
		if r.KillCursors(r.t) == 0 {
			r.t.Error("there was none")
		}
	},
	"step-down":                     func(r *faultRig) { r.stepDown(func() {}) },
	"step-down, cursors killed":     func(r *faultRig) { r.stepDown(func() { r.KillCursors(r.t) }) },
	"getMore fails, may be resumed": func(r *faultRig) { r.fail("getMore", testserver.Code("getMore", 6)) },
	"getMore fails, labelled":       func(r *faultRig) { r.fail("getMore", testserver.Code("getMore", 7777, "ResumableChangeStreamError")) },
	"getMore fails, unknown code":   func(r *faultRig) { r.fail("getMore", testserver.Code("getMore", 7777)) },
	"getMore's connection closes": func(r *faultRig) {
		r.fail("getMore", bson.D{{Key: "failCommands", Value: bson.A{"getMore"}}, {Key: "closeConnection", Value: true}})
	},
	"getMore is answered too late":      func(r *faultRig) { r.fail("getMore", late("getMore")) },
	"aggregate fails, cursors killed":   func(r *faultRig) { r.failReopening(testserver.Code("aggregate", 13435)) },
	"aggregate is answered too late":    func(r *faultRig) { r.failReopening(late("aggregate")) },
	"aggregate fails with unknown code": func(r *faultRig) { r.failReopening(testserver.Code("aggregate", 7777)) },
	"cursor dies, unlabelled": func(r *faultRig) {
		r.strike("getMore", testserver.FailCheckout, testserver.Times(2), bson.D{{Key: "errorCode", Value: 43}})
	},
	"every getMore fails from the fourth on, for a while": func(r *faultRig) {
		r.strike("getMore", testserver.FailCommand, bson.D{{Key: "skip", Value: 3}}, testserver.Code("getMore", 11601))
	},
	"frozen": func(r *faultRig) {
		freeze, thaw := r.Fake.Freeze, r.Fake.Thaw
		if r.Real != nil {
			node := r.Real.Nodes()[0]
			freeze, thaw = r.must(node.Pause), r.must(node.Resume)
		}
		before := r.Failures("getMore") + r.Failures("aggregate")
		freeze()
		defer thaw()
		r.await("timeout", func() bool { return r.Failures("getMore")+r.Failures("aggregate") > before })
	},
	"connections dropped": func(r *faultRig) {
		if r.Fake != nil {
			r.Fake.DropConnections()
			return
		}
		// The nearest to it that a real server can be made to do.
		r.fail("getMore", bson.D{{Key: "failCommands", Value: bson.A{"getMore", "hello", "aggregate"}}, {Key: "closeConnection", Value: true}})
	},
}

// restarting are those after which mongotest, which has no disk, would be another
// server.
var restarting = map[string]func(*faultRig){
	"restart": func(r *faultRig) {
		r.must(r.Real.Shutdown)()
		r.must(func() error { return r.Real.Restart(r.t.Context()) })()
	},
	"SIGKILL": func(r *faultRig) {
		r.must(r.Real.Kill)()
		r.must(func() error { return r.Real.Restart(r.t.Context()) })()
	},
}

func (r *faultRig) must(f func() error) func() {
	return func() {
		if err := f(); err != nil {
			r.t.Error(err)
		}
	}
}

// stepDown has the primary step down. While mongotest has none, its clients wait.
func (r *faultRig) stepDown(meanwhile func()) {
	if r.Fake != nil {
		r.Fake.StepDown(20 * time.Millisecond)
	} else if err := r.StepDown(r.t.Context()); err != nil {
		r.t.Error(err)
	}
	meanwhile()
}

// late has a command answered after its client has given up.
func late(command string) bson.D {
	return bson.D{{Key: "failCommands", Value: bson.A{command}}, {Key: "blockConnection", Value: true}, {Key: "blockTimeMS", Value: 2 * clientTimeout.Milliseconds()}}
}

// fail has a command fail three times.
func (r *faultRig) fail(command string, data bson.D) {
	r.strike(command, testserver.FailCommand, testserver.Times(3), data)
}

// strike sets a fail point, and takes it away once a command has failed of it.
func (r *faultRig) strike(command, point string, mode, data bson.D) {
	before := r.Failures(command)
	if point == testserver.FailCommand {
		data = ofPipeline(data)
	}
	r.FailPoint(r.t, point, mode, data)
	r.await(command+" that fails", func() bool { return r.Failures(command) > before })
	r.FailPointOff(r.t, point)
}

// ofPipeline has a failCommand strike the pipeline's client alone, and not what the
// test asks.
func ofPipeline(data bson.D) bson.D {
	return append(slices.Clone(data), bson.E{Key: "appName", Value: pipelineName})
}

// failReopening breaks the stream off and has the attempts to reopen it fail for a
// while.
func (r *faultRig) failReopening(data bson.D) {
	before := r.Failures("aggregate")
	r.FailPoint(r.t, testserver.FailCommand, testserver.Times(5), ofPipeline(data))
	r.KillCursors(r.t)
	r.await("two attempts in vain", func() bool { return r.Failures("aggregate") >= before+2 })
	r.FailPointOff(r.t, testserver.FailCommand)
}

// The destination doesn't notice a fault that passes: under continuous writes each event
// is delivered once, in order, and the checkpoint is right after the last one.
func TestFaultsThatPass(t *testing.T) {
	for name, fault := range passing {
		t.Run(name, func(t *testing.T) {
			onEach(t, ownServers, func(r *faultRig) { r.wantNothingLost(fault) })
		})
	}
	for name, fault := range restarting {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, test func(*testing.T, *testserver.Server)) {
				test(t, ownMongod(t))
			}, func(r *faultRig) { r.wantNothingLost(fault) })
		})
	}
}

func (r *faultRig) wantNothingLost(fault func(*faultRig)) {
	for n := 0; !r.start(); n++ { // a server of a busy machine may not answer within the client's time
		if err := r.outcome(); n == 10 {
			r.t.Fatal(err)
		}
	}
	r.write(10)
	r.awaitDelivery()
	r.writeWhile(func() { fault(r) })
	r.write(10)
	r.awaitDelivery()
	r.stop()
	r.wantDelivered(1, r.written)

	r.start()
	r.write(1)
	r.awaitDelivery()
	r.stop()
	r.wantDelivered(r.written, r.written)
}

// writeWhile writes all the time while something happens.
func (r *faultRig) writeWhile(happens func()) {
	var writer sync.WaitGroup
	stop := make(chan struct{})
	writer.Go(func() {
		for {
			r.write(1)
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	defer writer.Wait()
	defer close(stop)
	happens()
}

// After a crash the events since the last checkpoint are redelivered, and no others.
func TestCrash(t *testing.T) {
	onEach(t, ownServers, func(r *faultRig) {
		r.start()
		r.crash() // before anything happened: it has a place all the same
		r.write(10)
		r.start()
		r.awaitDelivery()
		r.crash()
		r.write(10)
		r.start()
		r.awaitDelivery()
		r.crash()
		if r.best != 20 {
			t.Errorf("%d of 20 delivered", r.best)
		}
	})
}

// A checkpoint never speaks of what the destination has not taken yet, however much of
// it has been read and however often a save was due.
func TestCrashBeforeDelivery(t *testing.T) {
	onEach(t, testserver.Both, func(r *faultRig) {
		r.cfg.SaveInterval = -1
		l := &life{}
		l.Fail(slices.Repeat([]error{errors.New("away")}, 1000)...)
		r.begin(l)
		r.write(10)
		r.await("ten attempts", func() bool { return l.Calls() >= 10 })
		r.crash()
		r.start()
		r.awaitDelivery()
		r.stop()
		r.wantDelivered(1, 10)
	})
}

// Right behind an invalidate event, only startAfter opens a stream. The pipeline
// crashes there, and the server is in trouble at once.
func TestCheckpointAfterAnInvalidateEvent(t *testing.T) {
	onEach(t, ownServers, func(r *faultRig) {
		r.cfg.SaveInterval = -1
		r.cfg.IdleInterval = patience // the checkpoint stays after the event
		r.start()
		for range 3 {
			r.write(3)
			if err := r.DB.Collection("c").Drop(r.t.Context()); err != nil {
				r.t.Fatal(err)
			}
			r.await("a checkpoint after the invalidate event", func() bool { return r.saved().StartAfter })
			r.crash()
			if !r.saved().StartAfter {
				r.t.Fatal("the checkpoint has advanced")
			}
			r.start()
			r.write(3)
			r.awaitDelivery()
		}
		r.stop()
		if r.best != r.written {
			r.t.Errorf("%d of %d delivered", r.best, r.written)
		}
	})
}

// bothSmall is of servers whose oplog can be lost.
func bothSmall(t *testing.T, test func(*testing.T, *testserver.Server)) {
	t.Helper()
	testserver.BothOwn(t, testserver.SmallOplog, test)
}

// A stream that has no events for longer than the oplog lasts keeps its place, by the
// tokens of empty batches.
func TestQuietStreamOutlivesTheOplog(t *testing.T) {
	onEach(t, bothSmall, func(r *faultRig) {
		r.start()
		r.write(1)
		r.awaitDelivery()
		movedOn := func() {
			now := r.OplogTime(r.t, -1)
			r.await("a checkpoint that has moved on", func() bool { return r.saved().ClusterTime.Compare(now) >= 0 })
		}
		if r.Fake != nil {
			if _, err := r.DB.Collection("fill").InsertOne(r.t.Context(), bson.D{}); err != nil {
				r.t.Fatal(err)
			}
			movedOn()
			r.Fake.ForgetOplog(1)
		} else {
			r.LoseOplog(r.t, r.lastEvent().ClusterTime())
			movedOn()
		}
		r.crash()
		r.start()
		r.write(1)
		r.awaitDelivery()
		r.stop()
		r.wantDelivered(2, 2)
	})
}

func (r *faultRig) lastEvent() rigatoni.Event {
	events := r.life.Events()
	return events[len(events)-1]
}

// The oplog has moved past the checkpoint: the pipeline says so, at each attempt, and
// neither delivers nor saves anything.
func TestOplogIsLost(t *testing.T) {
	onEach(t, bothSmall, func(r *faultRig) {
		r.start()
		r.write(5)
		r.awaitDelivery()
		r.stop()
		r.write(5)
		r.LoseOplog(r.t, r.OplogTime(r.t, -1))
		r.write(5)
		r.wantStop(rigatoni.ErrHistoryLost, 286)
		r.wantStop(rigatoni.ErrHistoryLost, 286)
	})
}

// wantStop wants a new life to end at once with an error, and to have left everything
// as it was.
func (r *faultRig) wantStop(sentinel error, c int) {
	r.t.Helper()
	before := r.saved()
	r.start()
	err := r.outcome()
	if err == nil || sentinel != nil && !errors.Is(err, sentinel) || code(err) != c {
		r.t.Errorf("%v, want %v with code %d", err, sentinel, c)
	}
	if sentinel == nil && errors.Is(err, rigatoni.ErrHistoryLost) {
		r.t.Errorf("%v: nothing is lost", err)
	}
	if n := len(r.life.Events()); n > 0 {
		r.t.Errorf("%d events were delivered", n)
	}
	if after := r.saved(); after.Token != before.Token || after.Sequence != before.Sequence || !after.SavedAt.Equal(before.SavedAt) {
		r.t.Errorf("the checkpoint was\n%+v and is\n%+v", before, after)
	}
}

// The oplog is lost below an open stream whose destination is slow: the events that were
// read are delivered, and the checkpoint is after them.
func TestOplogIsLostWhileStreaming(t *testing.T) {
	for name, store := range stores {
		t.Run(name, func(t *testing.T) {
			r := newFaultRig(t, testserver.Mongotest(t), store)
			r.cfg.MaxInFlightBytes = 1
			l := &life{hold: make(chan struct{})}
			r.begin(l)
			r.write(1)
			r.await("delivery that hangs", l.holding.Load)
			r.write(20)
			r.Fake.ForgetOplog(1)
			close(l.hold)
			err := r.outcome()
			if !errors.Is(err, rigatoni.ErrHistoryLost) {
				t.Fatalf("%v", err)
			}
			got := r.delivered()
			if len(got) == 0 || len(got) == r.written {
				t.Fatalf("%d of %d events were delivered", len(got), r.written)
			}
			r.wantDelivered(1, len(got))
			if token, _ := r.lastEvent().Token(); r.saved().Token != token {
				t.Errorf("the checkpoint is not that of the last event, %d", len(got))
			}
			r.wantStop(rigatoni.ErrHistoryLost, 286)
		})
	}
}

// both is a pipeline that makes an event of two fields of 10 MB one that has a field of
// 20 MB, which can't be sent in parts either. mongotest, which can't be asked for what
// parts don't tell, isn't asked for any.
func (r *faultRig) both() (p changestream.Pipeline, code int) {
	if r.Fake != nil {
		return nil, 10334
	}
	return changestream.Pipeline{{{Key: "$addFields", Value: bson.D{{Key: "both", Value: bson.D{
		{Key: "a", Value: "$fullDocument"}, {Key: "b", Value: "$updateDescription.updatedFields"},
	}}}}}}, 7182500
}

// An event that can't be read: those before it are delivered, the error names it, and
// the checkpoint is right before it, now and at the next start.
func TestEventTooLarge(t *testing.T) {
	onEach(t, ownServers, func(r *faultRig) {
		both, tooLarge := r.both()
		r.watch(changestream.Options{FullDocument: "updateLookup", Pipeline: both})
		r.start()
		r.write(10)
		r.awaitDelivery()
		r.stop()
		r.write(10)
		big := bson.D{{Key: "$set", Value: bson.D{{Key: "v", Value: strings.Repeat("z", 10<<20)}}}}
		if _, err := r.DB.Collection("c").UpdateByID(r.t.Context(), "big", bson.D{{Key: "$set", Value: bson.D{{Key: "n", Value: 21}}}}, upsert()); err != nil {
			r.t.Fatal(err)
		}
		if _, err := r.DB.Collection("c").UpdateByID(r.t.Context(), "big", big); err != nil {
			r.t.Fatal(err)
		}
		r.written = 21
		r.write(5)
		r.cfg.MaxBatchAge = patience // they are in hand when the error comes
		r.start()
		err := r.outcome()
		r.cfg.MaxBatchAge = -1
		if code(err) != tooLarge || errors.Is(err, rigatoni.ErrHistoryLost) || !strings.Contains(err.Error(), "the update in "+r.DB.Name()+".c at ") {
			r.t.Errorf("%v", err)
		}
		r.wantDelivered(11, 21)
		if token, _ := r.lastEvent().Token(); r.saved().Token != token {
			r.t.Error("the checkpoint is not that of the last event before it")
		}
		r.wantStop(nil, tooLarge)
		r.watch(changestream.Options{Pipeline: both}) // as the error says, it may fit without
		r.start()
		r.awaitDelivery()
		r.stop()
	})
}

// The same on a stream that is open, where the event takes its whole batch with it.
func TestEventTooLargeWhileStreaming(t *testing.T) {
	onEach(t, ownServers, func(r *faultRig) {
		both, tooLarge := r.both()
		r.watch(changestream.Options{FullDocument: "updateLookup", Pipeline: both})
		r.start()
		r.write(10)
		r.awaitDelivery()
		sess, err := r.Client.StartSession()
		if err != nil {
			r.t.Fatal(err)
		}
		defer sess.EndSession(r.t.Context())
		_, err = sess.WithTransaction(r.t.Context(), func(ctx context.Context) (any, error) {
			for n := 11; n <= 13; n++ {
				if err := r.put(ctx, n); err != nil {
					return nil, err
				}
			}
			return r.DB.Collection("c").UpdateByID(ctx, 13%documents, bson.D{{Key: "$set", Value: bson.D{{Key: "v", Value: strings.Repeat("z", 10<<20)}}}})
		})
		if err != nil {
			r.t.Fatal(err)
		}
		if err := r.outcome(); code(err) != tooLarge {
			r.t.Errorf("%v", err)
		}
		r.wantDelivered(1, 13)
		if token, _ := r.lastEvent().Token(); r.saved().Token != token {
			r.t.Error("the checkpoint is not that of the last event before it")
		}
		r.wantStop(nil, tooLarge)
	})
}

// Errors that no repetition will mend stop the pipeline. What was delivered is saved,
// and a start after the trouble goes on behind it.
func TestErrorsThatStop(t *testing.T) {
	for name, c := range map[string]struct {
		point    string
		data     bson.D
		sentinel error
		code     int
	}{
		"history lost":     {testserver.FailCheckout, bson.D{{Key: "errorCode", Value: 286}}, rigatoni.ErrHistoryLost, 286},
		"token not found":  {testserver.FailCheckout, bson.D{{Key: "errorCode", Value: 280}}, rigatoni.ErrHistoryLost, 280},
		"capped position":  {testserver.FailCheckout, bson.D{{Key: "errorCode", Value: 136}}, rigatoni.ErrHistoryLost, 136},
		"not resumable":    {testserver.FailCommand, testserver.Code("getMore", 7777, "NonResumableChangeStreamError"), rigatoni.ErrHistoryLost, 7777},
		"not allowed":      {testserver.FailCommand, testserver.Code("getMore", 13), nil, 13},
		"no such option":   {testserver.FailCommand, testserver.Code("getMore", 40415), nil, 40415},
		"no replica set":   {testserver.FailCommand, testserver.Code("getMore", 40573), nil, 40573},
		"not a collection": {testserver.FailCommand, testserver.Code("getMore", 166), nil, 166},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, ownServers, func(r *faultRig) {
				r.cfg.SaveInterval = patience // only the end saves
				r.start()
				r.write(7)
				r.awaitDelivery()
				r.FailPoint(r.t, c.point, testserver.Times(1), c.data)
				err := r.outcome()
				if c.sentinel != nil && !errors.Is(err, c.sentinel) || c.sentinel == nil && errors.Is(err, rigatoni.ErrHistoryLost) || code(err) != c.code {
					r.t.Errorf("%v, want code %d", err, c.code)
				}
				r.wantDelivered(1, 7)
				r.write(3)
				r.start()
				r.awaitDelivery()
				r.stop()
				r.wantDelivered(8, 10)
			})
		})
	}
}

// The server goes, and another takes its address, with other data: the stream stops
// rather than go on from a place that is not there, and a new start sees that it is
// another deployment.
func TestAnotherServerOnThePort(t *testing.T) {
	for name, store := range stores {
		t.Run(name, func(t *testing.T) {
			r := newFaultRig(t, testserver.Mongotest(t), store)
			r.cfg.IdleInterval = patience
			r.start()
			r.write(5)
			r.awaitDelivery()
			r.stop()
			before := r.saved()
			r.Fake.Close()
			other, err := mongotest.Listen(context.Background(), mongotest.Options{Address: strings.Split(strings.TrimPrefix(r.URI, "mongodb://"), "/")[0]})
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			r.watch(changestream.Options{}) // whose client has not seen the old one
			r.start()
			if err := r.outcome(); !errors.Is(err, rigatoni.ErrChangedStream) {
				t.Errorf("%v, want %v", err, rigatoni.ErrChangedStream)
			}
			if after := r.saved(); after.Token != before.Token || len(r.life.Events()) > 0 {
				t.Error("something was delivered or saved")
			}
		})
	}
}
