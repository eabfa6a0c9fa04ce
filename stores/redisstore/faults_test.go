package redisstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

func checkpoint(t testing.TB, data string, sequence uint64) state.Checkpoint {
	t.Helper()
	doc, err := bson.Marshal(bson.D{{Key: "_data", Value: data}})
	if err != nil {
		t.Fatal(err)
	}
	cp, err := state.At(doc)
	if err != nil {
		t.Fatal(err)
	}
	cp.Sequence = sequence
	return cp
}

// openPatiently is redisstore.Open, repeated while a server on a busy machine doesn't
// answer within ConnectTimeout.
func openPatiently(ctx context.Context, url string, o *redisstore.Options) (s *redisstore.Store, err error) {
	for range 12 {
		if s, err = redisstore.Open(ctx, url, o); !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			break
		}
	}
	return s, err
}

func open(t testing.TB, url string, o redisstore.Options) *redisstore.Store {
	t.Helper()
	if o.Logger == nil {
		o.Logger = quiet
	}
	s, err := openPatiently(t.Context(), url, &o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func acquire(t testing.TB, s *redisstore.Store, key string) state.Grant {
	t.Helper()
	g, err := s.Acquire(t.Context(), key, state.LeaseRequest{Owner: "test", Nonce: state.NewNonce(), TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// want fails the test unless err is target; nil is nil.
func want(t testing.TB, err, target error, what string) {
	t.Helper()
	if !errors.Is(err, target) || target == nil && err != nil {
		t.Errorf("%s: %v, want %v", what, err, target)
	}
}

// What is idempotent is repeated, and done once.
func TestLostAnswer(t *testing.T) {
	server := redisserver.Start(t, nil)
	p := newProxy(t, server.Addr)
	s := open(t, p.url(), redisstore.Options{})
	ctx := t.Context()
	for _, lost := range [][]cut{{before}, {inside}, {after}, {after, before, inside}} {
		key := "k"
		want(t, s.Forget(ctx, key), nil, "Forget")
		r := state.LeaseRequest{Owner: "a", Nonce: state.NewNonce(), TTL: time.Hour}
		p.next(lost...)
		g, err := s.Acquire(ctx, key, r)
		want(t, err, nil, "Acquire")
		if g.Fence != (state.Fence{Epoch: 1, Nonce: r.Nonce}) {
			t.Errorf("%v: the fence has epoch %d, want 1: a repeated Acquire took its own lease for another's", lost, g.Fence.Epoch)
		}
		for name, op := range map[string]func() error{
			"SaveFenced":                    func() error { return s.SaveFenced(ctx, key, g.Fence, checkpoint(t, "82AA", 5)) },
			"SaveFenced, unordered":         func() error { return s.SaveFenced(ctx, key, g.Fence, checkpoint(t, "82AB", 0)) },
			"Save with a sequence":          func() error { return s.Save(ctx, "other", checkpoint(t, "82AC", 5)) },
			"Renew":                         func() error { return s.Renew(ctx, key, g.Fence, time.Hour) },
			"Load of a key not saved":       func() error { _, err := s.Load(ctx, "never"); return errorUnless(err, state.ErrNotFound) },
			"ClearFenced":                   func() error { return s.ClearFenced(ctx, "k", g.Fence) },
			"Ping":                          func() error { return s.Ping(ctx) },
			"Release, which was not needed": func() error { return s.Release(ctx, "never", g.Fence) },
		} {
			p.next(lost...)
			want(t, op(), nil, name)
			if n := p.scripts.Load(); n != int64(len(lost))+1 {
				t.Errorf("%s: %d attempts, want %d", name, n, len(lost)+1)
			}
		}
		p.next(lost...)
		want(t, s.Release(ctx, key, g.Fence), nil, "Release")
	}
}

func errorUnless(err, target error) error {
	if errors.Is(err, target) {
		return nil
	}
	return errors.Join(errors.New("another error"), err)
}

// What isn't idempotent is not repeated where it may have been done.
func TestLostAnswerToUnordered(t *testing.T) {
	server := redisserver.Start(t, nil)
	p := newProxy(t, server.Addr)
	s, other := open(t, p.url(), redisstore.Options{}), open(t, server.URL(), redisstore.Options{})
	ctx := t.Context()
	for name, op := range map[string]func() error{
		"Save":   func() error { return s.Save(ctx, "k", checkpoint(t, "82AA", 0)) },
		"Clear":  func() error { return s.Clear(ctx, "k") },
		"Forget": func() error { return s.Forget(ctx, "k") },
	} {
		want(t, other.Save(ctx, "k", checkpoint(t, "82BB", 0)), nil, "Save by another")
		p.next(after)
		err := op()
		want(t, err, state.ErrUnavailable, name)
		var e *state.Error
		if !errors.As(err, &e) || !e.Retryable() {
			t.Errorf("%s: %v is not retryable", name, err)
		}
		if n := p.scripts.Load(); n != 1 {
			t.Errorf("%s was sent %d times", name, n)
		}
	}
}

// What was certainly not executed is repeated, whatever it is.
func TestRepeatsWhatWasNotSent(t *testing.T) {
	server := redisserver.Start(t, &redisserver.Options{Config: []string{"appendonly yes"}})
	s := open(t, server.URL(), redisstore.Options{MaxRetries: 100, MinRetryBackoff: 20 * time.Millisecond, MaxRetryBackoff: 50 * time.Millisecond})
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	saved := make(chan error, 1)
	go func() { saved <- s.Save(t.Context(), "k", checkpoint(t, "82AA", 0)) }()
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(t, <-saved, nil, "Save through a restart")
}

func TestRestartKeepsAll(t *testing.T) {
	server := redisserver.Start(t, &redisserver.Options{Config: []string{"appendonly yes", "appendfsync always"}})
	s, ctx := open(t, server.URL(), redisstore.Options{}), t.Context()
	g := acquire(t, s, "k")
	want(t, s.SaveFenced(ctx, "k", g.Fence, checkpoint(t, "82AA", 7)), nil, "SaveFenced")
	if err := errors.Join(server.Kill(), server.Restart(ctx)); err != nil {
		t.Fatal(err)
	}
	// The server has no script any more, and the connections are dead.
	cp, err := s.Load(ctx, "k")
	want(t, err, nil, "Load")
	if cp.Token != checkpoint(t, "82AA", 0).Token || cp.Sequence != 7 || cp.Epoch != g.Fence.Epoch {
		t.Errorf("another checkpoint after the restart: sequence %d, epoch %d", cp.Sequence, cp.Epoch)
	}
	want(t, s.SaveFenced(ctx, "k", g.Fence, checkpoint(t, "82AB", 6)), state.ErrStale, "an older sequence")
	want(t, s.SaveFenced(ctx, "k", g.Fence, checkpoint(t, "82AB", 8)), nil, "SaveFenced after the restart")
}

func TestScriptFlush(t *testing.T) {
	server := redisserver.Start(t, nil)
	s, c, ctx := open(t, server.URL(), redisstore.Options{MaxRetries: -1}), client(t, server), t.Context()
	for i := range uint64(3) {
		want(t, c.ScriptFlush(ctx).Err(), nil, "SCRIPT FLUSH")
		want(t, s.Save(ctx, "k", checkpoint(t, "82AA", i)), nil, "Save")
		want(t, c.ScriptFlush(ctx).Err(), nil, "SCRIPT FLUSH")
		for e, err := range s.List(ctx, "") {
			want(t, errors.Join(err, e.LoadErr), nil, "List")
		}
	}
}

// within runs f and fails the test if it takes less or longer.
func within(t *testing.T, least, most time.Duration, what string, f func() error) error {
	t.Helper()
	from := time.Now()
	err := f()
	if d := time.Since(from); d < least || d > most {
		t.Errorf("%s took %v, not %v to %v", what, d, least, most)
	}
	return err
}

// slack is what a busy machine may add.
const slack = 8 * time.Second

func TestFrozen(t *testing.T) {
	server := redisserver.Start(t, nil)
	s := open(t, server.URL(), redisstore.Options{ReadTimeout: 20 * time.Second, MaxRetries: -1})
	impatient := open(t, server.URL(), redisstore.Options{ReadTimeout: 100 * time.Millisecond, MaxRetries: 2, MaxRetryBackoff: 10 * time.Millisecond})
	c := client(t, server) // go-redis's defaults: it heeds no deadline, and repeats
	lent, err := redisstore.FromClient(t.Context(), c, &redisstore.Options{Logger: quiet})
	want(t, err, nil, "FromClient")
	want(t, s.Save(t.Context(), "k", checkpoint(t, "82AA", 1)), nil, "Save")
	if err := server.Freeze(); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*redisstore.Store{"own": s, "lent": lent} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		err := within(t, 90*time.Millisecond, slack, name+": a call with a deadline", func() error { _, err := s.Load(ctx, "k"); return err })
		want(t, err, context.DeadlineExceeded, name)
		want(t, err, state.ErrUnavailable, name)
		cancel()
	}
	err = within(t, 300*time.Millisecond, 300*time.Millisecond+slack, "a call without a deadline", func() error {
		_, err := impatient.Load(context.Background(), "k")
		return err
	})
	want(t, err, state.ErrUnavailable, "ReadTimeout")

	// A cancellation, by contrast: at the read timeout, and no attempt after it.
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	err = within(t, 0, 100*time.Millisecond+slack, "a cancelled call", func() error { _, err := impatient.Load(ctx, "k"); return err })
	want(t, err, context.Canceled, "cancelled")

	err = within(t, 0, slack, "Close during a call", func() error {
		time.AfterFunc(50*time.Millisecond, func() { s.Close() })
		_, err := s.Load(context.Background(), "k")
		return err
	})
	want(t, err, state.ErrClosed, "Close")
	err = within(t, 250*time.Millisecond, 300*time.Millisecond+slack, "Open", func() error {
		_, err := redisstore.Open(t.Context(), server.URL(), &redisstore.Options{ConnectTimeout: 300 * time.Millisecond})
		return err
	})
	want(t, err, state.ErrUnavailable, "Open")
	if err := server.Thaw(); err != nil {
		t.Fatal(err)
	}
	_, err = impatient.Load(t.Context(), "k")
	want(t, err, nil, "thawed")
}

func TestWriteTimeout(t *testing.T) {
	server := redisserver.Start(t, nil)
	s := open(t, server.URL(), redisstore.Options{WriteTimeout: 100 * time.Millisecond, ReadTimeout: time.Minute, MaxRetries: -1})
	cp := checkpoint(t, "82AA", 1)
	cp.Extra = map[string]jsonDoc{"big": bigDoc(16 << 20)} // more than the buffers in between hold
	if err := server.Freeze(); err != nil {
		t.Fatal(err)
	}
	err := within(t, 90*time.Millisecond, 30*time.Second, "Save", func() error { return s.Save(context.Background(), "k", cp) })
	want(t, err, state.ErrUnavailable, "WriteTimeout")
	if err := server.Thaw(); err != nil {
		t.Fatal(err)
	}
}

// What the server refuses until a person acts is not repeated, and changes nothing.
func TestRefused(t *testing.T) {
	server := redisserver.Start(t, nil)
	p := newProxy(t, server.Addr)
	s, c, ctx := open(t, p.url(), redisstore.Options{}), client(t, server), t.Context()
	want(t, s.Save(ctx, "k", checkpoint(t, "82AA", 1)), nil, "Save")
	once := func(err, target error, what string) {
		t.Helper()
		want(t, err, target, what)
		if n := p.scripts.Load(); n != 1 {
			t.Errorf("%s: %d attempts, want 1", what, n)
		}
		p.next()
	}
	p.next()
	want(t, c.ConfigSet(ctx, "maxmemory", "1").Err(), nil, "CONFIG SET")
	once(s.Save(ctx, "k", checkpoint(t, "82BB", 2)), state.ErrRefused, "Save, memory full")
	once(s.Save(ctx, "new", checkpoint(t, "82BB", 2)), state.ErrRefused, "Save of a new key, memory full")
	once(s.Ping(ctx), state.ErrRefused, "Ping, memory full")
	_, err := s.Load(ctx, "k")
	once(err, nil, "Load, memory full")
	want(t, c.ConfigSet(ctx, "maxmemory", "0").Err(), nil, "CONFIG SET")

	want(t, c.Do(ctx, "ACL", "SETUSER", "default", "-set").Err(), nil, "ACL SETUSER")
	once(s.Save(ctx, "k", checkpoint(t, "82BB", 2)), state.ErrRefused, "Save without the right to SET")
	want(t, c.Do(ctx, "ACL", "SETUSER", "default", "+@all").Err(), nil, "ACL SETUSER")

	cp, err := s.Load(ctx, "k")
	want(t, err, nil, "Load")
	if cp.Sequence != 1 {
		t.Errorf("a refused save left sequence %d", cp.Sequence)
	}
	want(t, s.Save(ctx, "k", checkpoint(t, "82BB", 2)), nil, "Save at last")
}

// A replica may become a master again: that is repeated.
func TestReadOnly(t *testing.T) {
	server := redisserver.Start(t, nil)
	p := newProxy(t, server.Addr)
	s, c, ctx := open(t, p.url(), redisstore.Options{MaxRetries: 2}), client(t, server), t.Context()
	want(t, c.Do(ctx, "REPLICAOF", "127.0.0.1", "1").Err(), nil, "REPLICAOF")
	p.next()
	want(t, s.Save(ctx, "k", checkpoint(t, "82AA", 0)), state.ErrUnavailable, "Save to a replica")
	if n := p.scripts.Load(); n != 3 {
		t.Errorf("%d attempts, want 3", n)
	}
	want(t, s.Ping(ctx), state.ErrUnavailable, "Ping of a replica")
	want(t, c.Do(ctx, "REPLICAOF", "NO", "ONE").Err(), nil, "REPLICAOF NO ONE")
	want(t, s.Save(ctx, "k", checkpoint(t, "82AA", 0)), nil, "Save to a master")
}

// Whatever damages a key, no operation takes it for absent, and what belongs to
// somebody else stays as it is.
func TestDamage(t *testing.T) {
	server := redisserver.Start(t, nil)
	s, c, ctx := open(t, server.URL(), redisstore.Options{}), client(t, server), t.Context()
	record, fence := redisstore.Names("rigatoni:", "k")
	for i, damage := range damages {
		want(t, c.FlushAll(ctx).Err(), nil, "FLUSHALL")
		want(t, s.Save(ctx, "k", checkpoint(t, "82AA", 1)), nil, "Save")
		want(t, s.Save(ctx, "sound", checkpoint(t, "82AA", 1)), nil, "Save")
		want(t, damage(ctx, c, record, fence), nil, "damage")
		was := dump(t, c, record) + dump(t, c, fence)
		_, err := s.Load(ctx, "k")
		want(t, err, state.ErrCorrupt, "Load")
		_, err = s.Acquire(ctx, "k", state.LeaseRequest{Nonce: "n", TTL: time.Hour, Steal: true})
		want(t, err, state.ErrCorrupt, "Acquire")
		if got := dump(t, c, record) + dump(t, c, fence); got != was {
			t.Errorf("damage %d: it was changed by who could not read it", i)
		}
		seen := map[string]error{}
		for e, err := range s.List(ctx, "") {
			want(t, err, nil, "List")
			seen[e.Key] = e.LoadErr
		}
		if len(seen) != 2 || seen["sound"] != nil || !errors.Is(seen["k"], state.ErrCorrupt) {
			t.Errorf("damage %d: listed %v", i, seen)
		}
		foreign := c.Type(ctx, record).Val() == "list" || c.Type(ctx, fence).Val() == "string"
		if foreign {
			for name, err := range map[string]error{
				"Save": s.Save(ctx, "k", checkpoint(t, "82BB", 2)), "Clear": s.Clear(ctx, "k"), "Forget": s.Forget(ctx, "k"),
			} {
				want(t, err, state.ErrCorrupt, name+" over somebody else's value")
			}
			if got := dump(t, c, record) + dump(t, c, fence); got != was {
				t.Errorf("damage %d: somebody else's value was changed", i)
			}
			continue
		}
		want(t, s.Forget(ctx, "k"), nil, "Forget of what is damaged")
		_, err = s.Load(ctx, "k")
		want(t, err, state.ErrNotFound, "Load after Forget")
	}
}

// A value under our name that no save put there is not overwritten.
func TestStray(t *testing.T) {
	server := redisserver.Start(t, nil)
	s, c, ctx := open(t, server.URL(), redisstore.Options{}), client(t, server), t.Context()
	record, _ := redisstore.Names("rigatoni:", "k")
	want(t, c.Set(ctx, record, "mine", 0).Err(), nil, "SET")
	_, err := s.Load(ctx, "k")
	want(t, err, state.ErrCorrupt, "Load")
	want(t, s.Save(ctx, "k", checkpoint(t, "82AA", 1)), state.ErrCorrupt, "Save")
	want(t, s.Clear(ctx, "k"), state.ErrCorrupt, "Clear")
	if v := c.Get(ctx, record).Val(); v != "mine" {
		t.Errorf("it is %q now", v)
	}
}

func dump(t *testing.T, c *redis.Client, name string) string {
	t.Helper()
	v, err := c.Dump(t.Context(), name).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	return v
}
