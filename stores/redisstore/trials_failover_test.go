package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/internal/testing/faultproxy"
	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/state"
)

// TestLateWritesOfFrozenServer: commands that waited in a frozen server are executed in
// any order. In every order the new owner's writes win, and it resumes from an old
// owner's save that was acknowledged.
func TestLateWritesOfFrozenServer(t *testing.T) {
	mutate(t)
	seed, rounds := campaign.Seed(t), 1
	if campaign.Full(t) {
		rounds = 10
	}
	server := redisserver.Start(t, nil)
	s := &stand{url: server.URL()}
	for round := range rounds {
		rnd := rand.New(rand.NewPCG(seed, uint64(round)))
		pairs := make([]*trial, 10)
		for i := range pairs {
			pairs[i] = s.pair(t, rnd, fmt.Sprintf("round%d-%d", round, i))
			want(t, pairs[i].old.acquire(t.Context(), time.Hour, false), nil, "Acquire")
			want(t, pairs[i].old.save(t.Context(), 1), nil, "SaveFenced")
		}
		want(t, server.Freeze(), nil, "Freeze")
		answers := make([]chan error, 2*len(pairs))
		for i, tr := range pairs {
			calls := []func() error{
				func() error { return writes[0].do(t.Context(), tr.old) },
				func() error { return tr.new.acquire(t.Context(), time.Hour, true) },
			}
			answers[2*i], answers[2*i+1] = make(chan error, 1), make(chan error, 1)
			order := rnd.Perm(2)
			for _, j := range order {
				go func() { answers[2*i+j] <- calls[j]() }()
				who := []*owner{tr.old, tr.new}[j]
				want(t, who.underway(t.Context()), nil, "underway")
			}
		}
		want(t, server.Thaw(), nil, "Thaw")
		for i, tr := range pairs {
			late, taken := <-answers[2*i], <-answers[2*i+1]
			if err := tr.thawed(t.Context(), late, taken); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		}
	}
	t.Logf("%d trials", 10*rounds)
}

// pair makes the owners of a trial; they end with the test.
func (s *stand) pair(t *testing.T, rnd *rand.Rand, key string) *trial {
	t.Helper()
	tr := &trial{stand: s, rnd: rnd, key: key}
	var err error
	if tr.old, err = s.owner(t.Context(), key, 1, steady); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.old.close)
	if tr.new, err = s.owner(t.Context(), key, 2, steady); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.new.close)
	return tr
}

// thawed judges a trial by what the server answered to both.
func (tr *trial) thawed(ctx context.Context, late, taken error) error {
	if taken != nil {
		return taken
	}
	left := tr.old.last
	switch {
	case late == nil:
		left = tr.old.next()
	case !errors.Is(late, state.ErrFenced):
		return late
	}
	if !same(tr.new.last, left) {
		return fmt.Errorf("OVERWRITTEN, or nearly: the new owner was given %s, and the old one left %s", tell(tr.new.last), tell(left))
	}
	if err := tr.new.save(ctx, 1); err != nil {
		return err
	}
	return errors.Join(tr.shutOut(ctx), tr.unchanged(ctx, tr.new.last))
}

// A failing is a Redis of which a master can fail, with trials on it.
type failing struct {
	stand   stand
	master  func(ctx context.Context) (*redisserver.Server, error) // that has the trials' keys
	settled func(ctx context.Context) error
	key     func(ctx context.Context) (string, error)      // another one that the master has
	strand  func(victim *redisserver.Server) (heal func()) // parts it from all but the old owners

	done atomic.Int64 // late writes that were acknowledged
}

// A fault is what happens to a master.
type fault struct {
	name       string
	begin, end func(ctx context.Context, f *failing, victim *redisserver.Server) error
}

var (
	killed = fault{"killed",
		func(_ context.Context, _ *failing, v *redisserver.Server) error { return v.Kill() },
		func(ctx context.Context, _ *failing, v *redisserver.Server) error { return v.Restart(ctx) }}
	frozen = fault{"frozen",
		func(_ context.Context, _ *failing, v *redisserver.Server) error { return v.Freeze() },
		func(_ context.Context, _ *failing, v *redisserver.Server) error { return v.Thaw() }}
)

// stranded has the old owners on the side of the old master, which goes on to take
// their writes. If early, they come there after the parting.
func stranded(early bool) fault {
	var heal func()
	return fault{fmt.Sprintf("stranded, early=%v", early),
		func(_ context.Context, f *failing, v *redisserver.Server) error { heal = f.strand(v); return nil },
		func(context.Context, *failing, *redisserver.Server) error { heal(); return nil }}
}

// round has a master fail under n owners, and others take over.
func (f *failing) round(t *testing.T, seed uint64, fa fault, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	rnd := rand.New(rand.NewPCG(seed, 0))
	victim, err := f.master(ctx)
	want(t, err, nil, "master")
	trials := make([]*trial, n)
	for i := range trials {
		key, err := f.key(ctx)
		want(t, err, nil, "key")
		trials[i] = &trial{stand: &f.stand, rnd: rand.New(rand.NewPCG(seed, uint64(i+1))), key: key}
		trials[i].old, err = f.stand.owner(ctx, trials[i].key, 1, hasty)
		if err != nil {
			t.Fatal(err)
		}
		defer trials[i].old.close()
	}
	early := fa.name == stranded(true).name
	if early {
		want(t, fa.begin(ctx, f, victim), nil, fa.name)
	}
	for _, tr := range trials {
		want(t, errors.Join(tr.old.acquire(ctx, time.Hour, true), tr.old.save(ctx, 1+rnd.IntN(3))), nil, "the old owner")
	}
	ends := make([]func(), n)
	for i, tr := range trials {
		ends[i] = func() {}
		if rnd.IntN(2) == 0 {
			ends[i] = holdPackets(tr.old)
		}
	}
	if !early {
		want(t, fa.begin(ctx, f, victim), nil, fa.name)
	}
	answers := make(chan error, n)
	for _, tr := range trials {
		w := writes[tr.rnd.IntN(len(writes))]
		go func() { answers <- w.do(ctx, tr.old) }()
	}
	f.failedOver(ctx, t, victim)
	var wg sync.WaitGroup
	for _, tr := range trials {
		wg.Go(func() {
			if err := tr.takeOver(ctx); err != nil {
				t.Errorf("%s, %s: the new owner: %v", fa.name, tr.key, err)
			}
		})
		defer func() {
			if tr.new != nil {
				tr.new.close()
			}
		}()
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	// What was held arrives before the old master is back, or after.
	ends = append(ends, func() { want(t, fa.end(ctx, f, victim), nil, fa.name) })
	for _, i := range rnd.Perm(len(ends)) {
		ends[i]()
	}
	for range trials {
		if err := <-answers; err == nil {
			f.done.Add(1) // by a master that was discarded, or before the new owner came
		}
	}
	want(t, f.settled(ctx), nil, "settled")
	for _, tr := range trials {
		wg.Go(func() {
			if err := errors.Join(tr.old.arrived(ctx), tr.unchangedAtLast(ctx), tr.shutOutAtLast(ctx), tr.unchangedAtLast(ctx)); err != nil {
				t.Errorf("%s, %s: %v", fa.name, tr.key, err)
			}
		})
	}
	wg.Wait()
}

func (f *failing) failedOver(ctx context.Context, t *testing.T, victim *redisserver.Server) {
	t.Helper()
	for {
		if m, err := f.master(ctx); err == nil && m != victim {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal("there was no failover")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// takeOver has a new owner come, and save, as soon as it can.
func (tr *trial) takeOver(ctx context.Context) error {
	impatient := steady
	impatient.ReadTimeout = time.Second
	if err := whileUnavailable(ctx, func() (err error) {
		tr.new, err = tr.stand.owner(ctx, tr.key, 2, impatient)
		return err
	}); err != nil {
		return err
	}
	if err := whileUnavailable(ctx, func() error { return tr.new.acquire(ctx, time.Hour, true) }); err != nil {
		return err
	}
	return whileUnavailable(ctx, func() error { return tr.new.save(ctx, 1) })
}

// whileUnavailable repeats f while that may help, as a pipeline does.
func whileUnavailable(ctx context.Context, f func() error) error {
	for {
		err := f()
		if !errors.Is(err, state.ErrUnavailable) || ctx.Err() != nil {
			return err
		}
	}
}

func (tr *trial) unchangedAtLast(ctx context.Context) error {
	return whileUnavailable(ctx, func() error { return tr.unchanged(ctx, tr.new.last) })
}

func (tr *trial) shutOutAtLast(ctx context.Context) error {
	return whileUnavailable(ctx, func() error { return tr.shutOut(ctx) })
}

// onSentinel is a Sentinel on which every node is known by the address of a front,
// by which it can be parted from all others. The old owners, which have mark 1, go
// past the fronts.
func onSentinel(t *testing.T) *failing {
	t.Helper()
	fronts := map[string]*faultproxy.Proxy{} // by the node's address
	behind := map[string]string{}            // the node's address, by the front's
	s := redisserver.StartSentinel(t, &redisserver.SentinelOptions{Announce: func(addr string) (string, error) {
		p := faultproxy.Start(t, addr, &faultproxy.Options{Raw: true})
		fronts[addr], behind[p.Addr()] = p, addr
		return p.Addr(), nil
	}})
	n := 0
	f := &failing{
		master: s.Master, settled: s.Settled,
		key: func(context.Context) (string, error) { n++; return fmt.Sprint(n), nil },
	}
	f.stand.url = s.URL()
	sentinels := s.SentinelAddrs()
	var mu sync.Mutex
	var old []*owner
	f.stand.connect = func(o *owner) func(context.Context, string, string) (net.Conn, error) {
		if o.mark == 1 {
			mu.Lock()
			defer mu.Unlock()
			old = append(old, o)
			o.net.Address = func(addr string) string { return behind[addr] }
		}
		return func(ctx context.Context, network, addr string) (net.Conn, error) {
			if slices.Contains(sentinels, addr) {
				return o.watch.Dial(ctx, network, addr)
			}
			return o.net.Dial(ctx, network, addr)
		}
	}
	f.strand = func(victim *redisserver.Server) func() {
		mu.Lock()
		side := old
		old = nil
		mu.Unlock()
		fronts[victim.Addr].Partition()
		for _, o := range side {
			o.watch.Partition()
		}
		return func() {
			fronts[victim.Addr].Heal()
			for _, o := range side {
				o.watch.Heal()
			}
		}
	}
	return f
}

// onCluster is a Cluster of which the master of slot 0 fails.
func onCluster(t *testing.T) *failing {
	t.Helper()
	c := redisserver.StartCluster(t, nil)
	f := &failing{settled: c.Settled}
	f.stand.url = c.URL()
	f.master = func(ctx context.Context) (*redisserver.Server, error) { return c.MasterOf(ctx, 0) }
	n := 0
	f.key = func(ctx context.Context) (string, error) {
		victim, err := c.MasterOf(ctx, 0)
		for err == nil {
			n++
			key := fmt.Sprint(n) // which stands in braces in Redis, and so has this slot
			var slot int
			var m *redisserver.Server
			if slot, err = c.Slot(ctx, key); err != nil {
				break
			}
			if m, err = c.MasterOf(ctx, slot); m == victim {
				return key, err
			}
		}
		return "", err
	}
	return f
}

// TestLateWritesAtFailover: nor does a failover let an old owner write over a new
// one. What it was told is saved may be lost with the master that said so.
func TestLateWritesAtFailover(t *testing.T) {
	t.Parallel()
	mutate(t)
	seed := campaign.Seed(t)
	for name, k := range map[string]struct {
		start       func(*testing.T) *failing
		short, long []fault
	}{
		"Sentinel": {onSentinel, []fault{stranded(true)}, []fault{killed, frozen, stranded(false), stranded(true), killed, frozen}},
		"Cluster":  {onCluster, []fault{frozen}, []fault{killed, frozen, killed, frozen}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := k.start(t)
			faults, n := k.short, 4
			if campaign.Full(t) {
				faults, n = k.long, 20
			}
			for i, fa := range faults {
				f.round(t, seed+uint64(i), fa, n)
			}
			t.Logf("%d trials; %d late writes were acknowledged, by a master that was discarded or before the new owner came", n*len(faults), f.done.Load())
		})
	}
}
