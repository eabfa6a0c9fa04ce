package rigatoni_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
)

// A soakFault is one of those that a soak takes turns with. It only strikes, and
// waits for nothing.
type soakFault struct {
	name   string
	weight int // how often, relative to the others; those that hold the driver up are rare
	strike func(*faultRig, *rand.Rand)
}

// The last two are for mongotest alone.
var soakFaults = []soakFault{
	{"killed cursors", 25, func(r *faultRig, _ *rand.Rand) { r.KillCursors(r.t) }},
	{"getMores that fail", 25, func(r *faultRig, rng *rand.Rand) {
		codes := []int{6, 7, 43, 50, 89, 237, 262, 11601, 7777}
		r.set(testserver.FailCommand, 1+rng.IntN(3), testserver.Code("getMore", codes[rng.IntN(len(codes))]))
	}},
	{"cursors that die", 25, func(r *faultRig, rng *rand.Rand) {
		codes := []int{6, 43, 143, 189, 237, 10107, 11602, 13436, 7777}
		r.set(testserver.FailCheckout, 1+rng.IntN(3), bson.D{{Key: "errorCode", Value: codes[rng.IntN(len(codes))]}})
	}},
	{"aggregates that fail", 15, func(r *faultRig, rng *rand.Rand) {
		codes := []int{6, 10107, 13435, 11602, 7777}
		r.set(testserver.FailCommand, 1+rng.IntN(4), testserver.Code("aggregate", codes[rng.IntN(len(codes))]))
		r.KillCursors(r.t)
	}},
	{"a connection that closes", 2, func(r *faultRig, rng *rand.Rand) {
		r.set(testserver.FailCommand, 1+rng.IntN(2), bson.D{{Key: "failCommands", Value: bson.A{"getMore", "aggregate"}}, {Key: "closeConnection", Value: true}})
	}},
	{"a step-down", 2, func(r *faultRig, rng *rand.Rand) {
		if r.Fake != nil {
			r.Fake.StepDown(time.Duration(1+rng.IntN(10)) * time.Millisecond)
		} else if err := r.StepDown(r.t.Context()); err != nil {
			r.t.Error(err)
		}
	}},
	{"dropped connections", 2, func(r *faultRig, _ *rand.Rand) {
		r.Fake.DropConnections()
	}},
	{"a frozen server", 2, func(r *faultRig, rng *rand.Rand) {
		r.Fake.Freeze()
		time.AfterFunc(time.Duration(rng.IntN(20))*time.Millisecond, r.Fake.Thaw)
	}},
}

// set sets a fail point, which replaces an earlier one of its name. An error is ignored:
// a server that can't set one, because it is stepping down or its connections were
// dropped, has a fault already.
func (r *faultRig) set(point string, times int, data bson.D) {
	if point == testserver.FailCommand {
		data = ofPipeline(data)
	}
	cmd := bson.D{{Key: "configureFailPoint", Value: point}, {Key: "mode", Value: testserver.Times(times)}, {Key: "data", Value: data}}
	_ = r.Client.Database("admin").RunCommand(r.t.Context(), cmd).Err()
}

func (r *faultRig) pick(rng *rand.Rand) soakFault {
	faults, sum := soakFaults, 0
	if r.Fake == nil {
		faults = faults[:len(faults)-2]
	}
	for _, f := range faults {
		sum += f.weight
	}
	n := rng.IntN(sum)
	for _, f := range faults {
		if n -= f.weight; n < 0 {
			return f
		}
	}
	panic("unreachable")
}

// Whatever happens to the server, in whatever order, and however often the pipeline
// crashes or is stopped meanwhile: each life begins behind the checkpoint, has no gap
// and no disorder, and together they have delivered all.
func TestPipelineSoak(t *testing.T) {
	for name, store := range stores {
		t.Run(name, func(t *testing.T) {
			t.Run("mongotest", func(t *testing.T) {
				soak(newFaultRig(t, testserver.Mongotest(t), store), campaign.Size(t, "RIGATONI_SOAK_FAULTS", 20_000, 300))
			})
			t.Run("mongod", func(t *testing.T) {
				soak(newFaultRig(t, ownMongod(t), store), campaign.Size(t, "RIGATONI_SOAK_FAULTS", 2000, 40))
			})
		})
	}
}

func soak(r *faultRig, faults int) {
	seed := campaign.Seed(r.t)
	rng := rand.New(rand.NewPCG(seed, 0))
	struck, ends := map[string]int{}, map[string]int{}
	r.start()
	r.write(1)
	r.awaitDelivery()
	r.writeWhile(func() {
		for n := range faults {
			f := r.pick(rng)
			f.strike(r, rng)
			struck[f.name]++
			// Some faults fall into the middle of others; before the next ones
			// something is read.
			if rng.IntN(3) > 0 {
				have := len(r.life.Events())
				r.await("progress", func() bool { return len(r.life.Events()) > have })
			}
			if n%20 != 19 {
				continue
			}
			if rng.IntN(2) == 0 {
				ends["crashed"]++
				r.crash()
			} else {
				ends["stopped"]++
				r.stop()
			}
			// With more or less in hand when it ends.
			r.cfg.MaxBatchAge = []time.Duration{-1, time.Millisecond, 30 * time.Millisecond}[rng.IntN(3)]
			for !r.start() { // a server in trouble may refuse
				if err := r.outcome(); errors.Is(err, rigatoni.ErrHistoryLost) || errors.Is(err, rigatoni.ErrChangedStream) {
					r.t.Fatal(err)
				}
				ends["refused"]++
			}
		}
	})
	r.write(1)
	r.awaitDelivery()
	r.stop()
	if r.best != r.written {
		r.t.Errorf("%d of %d events were delivered", r.best, r.written)
	}
	r.t.Log(fmt.Sprint(r.written, " events; ", struck, "; the pipeline was ", ends))
}
