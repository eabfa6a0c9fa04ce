package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/internal/testing/faultproxy"
	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

// A trial is this: an owner's write is held up on its way, another owner takes
// over and saves, and then the write arrives. In no trial may it change
// anything.
//
// A stand is a Redis on which trials take place, of any number of keys.
type stand struct {
	url   string
	admin redis.UniversalClient
	// connect, if not nil, is how an owner connects; otherwise it is over its network.
	connect func(o *owner) func(ctx context.Context, network, addr string) (net.Conn, error)
}

// An owner is one process, as Redis sees it: a store with connections of its own,
// which go over a network of its own.
type owner struct {
	*redisstore.Store
	net   *faultproxy.Network
	watch *faultproxy.Network // to the Sentinels, where that is another way
	key   string
	mark  byte // in its checkpoints, so that no two owners save the same
	fence state.Fence
	last  state.Checkpoint // the last that it saved, or was granted
	seq   uint64
}

// checkpointAt is a checkpoint of the owner with this mark.
func checkpointAt(mark byte, seq uint64) state.Checkpoint {
	doc, _ := bson.Marshal(bson.D{{Key: "_data", Value: fmt.Sprintf("82%02X%08X", mark, seq)}}) // of a string it can't fail
	cp, _ := state.At(doc)                                                                      // nor for what Marshal made
	cp.Sequence = seq
	return cp
}

// steady is for who has no trouble, hasty for who is to give up and try again.
var (
	steady = redisstore.Options{Logger: quiet, ReadTimeout: 20 * time.Second}
	hasty  = redisstore.Options{Logger: quiet, ReadTimeout: 150 * time.Millisecond, MaxRetryBackoff: 20 * time.Millisecond}
)

func (s *stand) owner(ctx context.Context, key string, mark byte, o redisstore.Options) (*owner, error) {
	w := &owner{net: faultproxy.NewNetwork(nil), watch: faultproxy.NewNetwork(nil), key: key, mark: mark}
	o = redisstore.Through(o, w.net.Dial)
	if s.connect != nil {
		o = redisstore.Through(o, s.connect(w))
	}
	var err error
	if w.Store, err = openPatiently(ctx, s.url, &o); err != nil {
		w.net.Close()
		w.watch.Close()
		return nil, err
	}
	return w, nil
}

func (o *owner) close() {
	o.net.Close() // first: a store waits for calls that hang
	o.watch.Close()
	_ = o.Close()
}

// acquire makes o the owner. All owners have one name, as processes that are
// restarted do.
func (o *owner) acquire(ctx context.Context, ttl time.Duration, steal bool) error {
	g, err := o.Acquire(ctx, o.key, state.LeaseRequest{Owner: "owner", Nonce: state.NewNonce(), TTL: ttl, Steal: steal})
	if err != nil {
		return err
	}
	o.fence, o.seq, o.last = g.Fence, g.LastSequence, g.Checkpoint
	return nil
}

// next is the checkpoint that o saves next.
func (o *owner) next() state.Checkpoint { return checkpointAt(o.mark, o.seq+1) }

func (o *owner) save(ctx context.Context, times int) error {
	for range times {
		cp := o.next()
		if err := o.SaveFenced(ctx, o.key, o.fence, cp); err != nil {
			return err
		}
		o.seq, o.last = cp.Sequence, cp
	}
	return nil
}

// A write is what an old owner may do too late.
type write struct {
	name string
	do   func(ctx context.Context, o *owner) error
}

var writes = []write{
	{"save", func(ctx context.Context, o *owner) error { return o.SaveFenced(ctx, o.key, o.fence, o.next()) }},
	{"far save", func(ctx context.Context, o *owner) error {
		cp := o.next()
		cp.Sequence += 1000
		return o.SaveFenced(ctx, o.key, o.fence, cp)
	}},
	{"unordered save", func(ctx context.Context, o *owner) error {
		cp := o.next()
		cp.Sequence = 0
		return o.SaveFenced(ctx, o.key, o.fence, cp)
	}},
	{"clear", func(ctx context.Context, o *owner) error { return o.ClearFenced(ctx, o.key, o.fence) }},
	{"renewal", func(ctx context.Context, o *owner) error { return o.Renew(ctx, o.key, o.fence, time.Hour) }},
}

// A delay keeps what an owner sends on its way, until the function is called.
type delay struct {
	name  string
	begin func(o *owner) (end func())
}

var delays = []delay{
	{"held packets", holdPackets},
	{"a partition", func(o *owner) func() {
		o.net.Partition()
		return o.net.Heal
	}},
}

// holdPackets holds every command for itself, also those with which the store
// tries again.
func holdPackets(o *owner) func() {
	var mu sync.Mutex
	var all []*faultproxy.Held
	o.net.Plan(func(r faultproxy.Request) faultproxy.Fault {
		if !touchesKeys(r) {
			return faultproxy.Pass
		}
		h := faultproxy.NewHeld()
		mu.Lock()
		defer mu.Unlock()
		all = append(all, h)
		return h.Fault()
	})
	return func() {
		o.net.Plan(nil)
		mu.Lock()
		defer mu.Unlock()
		for _, h := range all {
			ctx, cancel := context.WithCancel(context.Background())
			cancel() // nobody waits for the answer
			_, _ = h.Release(ctx)
		}
	}
}

// A handover is a way in which another takes over from an owner. It returns the
// checkpoint that is stored then; without a token: none.
type handover struct {
	name string
	ttl  time.Duration // of the old owner's lease
	do   func(ctx context.Context, tr *trial) (state.Checkpoint, error)
}

var handovers = []handover{
	{"a new owner that steals", time.Hour, func(ctx context.Context, tr *trial) (state.Checkpoint, error) {
		return tr.take(ctx, true)
	}},
	{"a new owner, after expiry", 20 * time.Millisecond, func(ctx context.Context, tr *trial) (state.Checkpoint, error) {
		return tr.take(ctx, false)
	}},
	{"a new owner that clears", time.Hour, func(ctx context.Context, tr *trial) (state.Checkpoint, error) {
		if _, err := tr.take(ctx, true); err != nil {
			return state.Checkpoint{}, err
		}
		return state.Checkpoint{}, tr.new.ClearFenced(ctx, tr.key, tr.new.fence)
	}},
	{"a person, after expiry", 20 * time.Millisecond, func(ctx context.Context, tr *trial) (state.Checkpoint, error) {
		cp := tr.new.next()
		cp.Sequence = 0
		return cp, whileHeld(ctx, func() error { return tr.new.Save(ctx, tr.key, cp) })
	}},
	// A failover to a replica that has not heard of the old owner: the epoch is
	// given a second time.
	{"a new owner, after a loss", time.Hour, func(ctx context.Context, tr *trial) (state.Checkpoint, error) {
		if err := tr.stand.restore(ctx, tr.key, tr.before); err != nil {
			return state.Checkpoint{}, err
		}
		tr.left = tr.granted
		cp, err := tr.take(ctx, false)
		if err == nil && tr.new.fence.Epoch != tr.old.fence.Epoch {
			err = fmt.Errorf("the epoch is %d, and %d before: the trial was to have it twice", tr.new.fence.Epoch, tr.old.fence.Epoch)
		}
		return cp, err
	}},
}

// whileHeld repeats f while the lease is held.
func whileHeld(ctx context.Context, f func() error) error {
	for {
		err := f()
		if !errors.Is(err, state.ErrLeaseHeld) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// A trial is one of them, of one key.
type trial struct {
	stand    *stand
	rnd      *rand.Rand
	key      string
	old, new *owner
	before   snapshot         // of the key, before the old owner came
	granted  state.Checkpoint // to the old owner
	left     state.Checkpoint // by the old owner, for the new one
}

// A snapshot is what Redis has of a key.
type snapshot map[string]string

func (s *stand) snapshot(ctx context.Context, key string) (snapshot, error) {
	names, err := namesWith(ctx, s.admin, "rigatoni:{"+key+"}")
	snap := snapshot{}
	for _, name := range names {
		v, e := s.admin.Dump(ctx, name).Result()
		err = errors.Join(err, e)
		snap[name] = v
	}
	return snap, err
}

// restore makes it what Redis has of the key.
func (s *stand) restore(ctx context.Context, key string, snap snapshot) error {
	names, err := namesWith(ctx, s.admin, "rigatoni:{"+key+"}")
	errs := []error{err}
	for _, name := range names {
		errs = append(errs, s.admin.Del(ctx, name).Err())
	}
	for name, v := range snap {
		errs = append(errs, s.admin.Restore(ctx, name, 0, v).Err())
	}
	return errors.Join(errs...)
}

// begin has an owner come, and save.
func (tr *trial) begin(ctx context.Context, ttl time.Duration) error {
	// Somebody was there before, so that there is an epoch and a checkpoint.
	if err := tr.old.acquire(ctx, time.Hour, false); err != nil {
		return err
	}
	if err := errors.Join(tr.old.save(ctx, 1), tr.old.Release(ctx, tr.key, tr.old.fence)); err != nil {
		return err
	}
	var err error
	if tr.before, err = tr.stand.snapshot(ctx, tr.key); err != nil {
		return err
	}
	if err := tr.old.acquire(ctx, ttl, false); err != nil {
		return err
	}
	tr.granted = tr.old.last
	err = tr.old.save(ctx, 1+tr.rnd.IntN(3))
	tr.left = tr.old.last
	return err
}

// take has the new owner come, who must find what the old one left, and save.
func (tr *trial) take(ctx context.Context, steal bool) (state.Checkpoint, error) {
	if err := whileHeld(ctx, func() error { return tr.new.acquire(ctx, time.Hour, steal) }); err != nil {
		return state.Checkpoint{}, fmt.Errorf("the new owner: %w", err)
	}
	if !same(tr.new.last, tr.left) {
		return state.Checkpoint{}, fmt.Errorf("the new owner was given %s, and the old one left %s", tell(tr.new.last), tell(tr.left))
	}
	err := tr.new.save(ctx, 1+tr.rnd.IntN(3))
	return tr.new.last, err
}

func same(a, b state.Checkpoint) bool { return a.Token == b.Token && a.Sequence == b.Sequence }

func tell(cp state.Checkpoint) string {
	if cp.Token.IsZero() {
		return "nothing"
	}
	return fmt.Sprintf("%v with sequence %d", cp.Token.Raw(), cp.Sequence)
}

// unchanged is the error if something else lies there than want.
func (tr *trial) unchanged(ctx context.Context, want state.Checkpoint) error {
	got, err := tr.new.Load(ctx, tr.key)
	switch {
	case want.Token.IsZero() && errors.Is(err, state.ErrNotFound):
		return nil
	case err != nil:
		return err
	case !same(got, want):
		return fmt.Errorf("OVERWRITTEN: there is %s, and there was %s", tell(got), tell(want))
	}
	return nil
}

// arrived waits until nothing of o is on its way.
func (o *owner) arrived(ctx context.Context) error {
	for o.net.InFlight() != 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d requests are still on their way: %w", o.net.InFlight(), ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// underway waits until something of o is on its way.
func (o *owner) underway(ctx context.Context) error {
	for o.net.InFlight() == 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("nothing was sent: %w", ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// shutOut is the error unless everything that the old owner tries is refused.
func (tr *trial) shutOut(ctx context.Context) error {
	for _, w := range writes {
		if err := w.do(ctx, tr.old); !errors.Is(err, state.ErrFenced) {
			return fmt.Errorf("OVERWRITTEN, or nearly: a %s of the old owner, who can see it: %v, want %w", w.name, err, state.ErrFenced)
		}
	}
	return nil
}

// late is a trial of a write that arrives late.
func (tr *trial) late(ctx context.Context, w write, d delay, h handover) error {
	if err := tr.begin(ctx, h.ttl); err != nil {
		return err
	}
	end := d.begin(tr.old)
	patience := time.Minute
	if tr.rnd.IntN(2) == 0 {
		patience = 30 * time.Millisecond // the owner gives up, and what it sent still comes
	}
	answer := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		answer <- w.do(ctx, tr.old)
	}()
	if err := tr.old.underway(ctx); err != nil {
		return err
	}
	there, err := h.do(ctx, tr)
	if err != nil {
		return err
	}
	end()
	if err := <-answer; !errors.Is(err, state.ErrFenced) && !errors.Is(err, state.ErrUnavailable) {
		return fmt.Errorf("OVERWRITTEN, or nearly: the write that came late was answered with %v", err)
	}
	if err := tr.old.arrived(ctx); err != nil {
		return err
	}
	if err := tr.unchanged(ctx, there); err != nil {
		return err
	}
	if err := tr.shutOut(ctx); err != nil {
		return err
	}
	return tr.unchanged(ctx, there)
}

// own is a trial with one owner, whose save arrives again after later ones.
func (tr *trial) own(ctx context.Context) error {
	if err := tr.begin(ctx, time.Hour); err != nil {
		return err
	}
	tr.new = tr.old
	end := holdPackets(tr.old)
	patience := 20 * time.Millisecond // for the SET
	if tr.rnd.IntN(2) == 0 {
		patience = 400 * time.Millisecond // and for scripts, which do the same
	}
	hasty, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	late := tr.old.next()
	if err := tr.old.SaveFenced(hasty, tr.key, tr.old.fence, late); !errors.Is(err, state.ErrUnavailable) {
		return fmt.Errorf("a save of which nothing was heard: %v", err)
	}
	tr.old.net.Plan(nil)
	// It tries again, and goes on, or clears.
	if err := tr.old.save(ctx, 1+tr.rnd.IntN(3)); err != nil {
		return err
	}
	there := tr.old.last
	if tr.rnd.IntN(3) == 0 {
		if err := tr.old.ClearFenced(ctx, tr.key, tr.old.fence); err != nil {
			return err
		}
		there = state.Checkpoint{}
	}
	end()
	if err := tr.old.arrived(ctx); err != nil {
		return err
	}
	if err := tr.unchanged(ctx, there); err != nil {
		return err
	}
	return tr.old.save(ctx, 1)
}

// one is any trial that needs no other server than it has.
func (s *stand) one(ctx context.Context, rnd *rand.Rand, key string) error {
	tr := &trial{stand: s, rnd: rnd, key: key}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var err error
	if tr.old, err = s.owner(ctx, key, 1, hasty); err != nil {
		return err
	}
	defer tr.old.close()
	if rnd.IntN(6) == 0 {
		if err := tr.own(ctx); err != nil {
			return fmt.Errorf("an owner's own save, late: %w", err)
		}
		return nil
	}
	if tr.new, err = s.owner(ctx, key, 2, steady); err != nil {
		return err
	}
	defer tr.new.close()
	w, d, h := writes[rnd.IntN(len(writes))], delays[rnd.IntN(len(delays))], handovers[rnd.IntN(len(handovers))]
	if err := tr.late(ctx, w, d, h); err != nil {
		return fmt.Errorf("a %s, late by %s, over %s: %w", w.name, d.name, h.name, err)
	}
	return nil
}

// many does n trials, some at a time, and reports what is wrong.
func (s *stand) many(t *testing.T, seed uint64, n int) {
	t.Helper()
	next := make(chan int)
	var wg sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				rnd := rand.New(rand.NewPCG(seed, uint64(i)))
				if err := s.one(t.Context(), rnd, fmt.Sprintf("trial%d", i)); err != nil {
					t.Errorf("trial %d: %v", i, err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	t.Logf("%d trials", n)
}

// TestLateWrites: nothing that an old owner sent arrives to any effect once
// another one has taken over, however late it is.
func TestLateWrites(t *testing.T) {
	mutate(t)
	seed := campaign.Seed(t)
	n := 40
	switch {
	case campaign.Full(t):
		n = 300
	case isMutant():
		n = 120 // so that each kind of trial comes up
	}
	stands := map[string]func(*testing.T, redisserver.Options) (string, redis.UniversalClient){"one server": oneServer}
	if campaign.Full(t) {
		stands["Sentinel"], stands["Cluster"] = sentinel, cluster
	}
	for name, start := range stands {
		t.Run(name, func(t *testing.T) {
			url, admin := start(t, redisserver.Options{})
			t.Cleanup(func() { want(t, admin.Close(), nil, "Close") })
			(&stand{url: url, admin: admin}).many(t, seed, n)
		})
	}
}
