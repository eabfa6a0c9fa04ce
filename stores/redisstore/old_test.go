package redisstore_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/internal/testing/sharedlog"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

const oldDocument = `{"version":1,"token":{"_data":"8264BEB9F3000000012B0229296E04"},"clusterTime":{"t":1690220019,"i":1},"sequence":7,"fingerprint":"rs0/shop","savedAt":"2026-11-29T20:00:00.000Z"}`

// writeOld writes a key as version 1 of this package did.
func writeOld(ctx context.Context, t *testing.T, c *redis.Client, seal, document string, fence ...any) {
	t.Helper()
	text := "7 3 " + document
	sum := sha1.Sum([]byte(text))
	want(t, c.Set(ctx, "rigatoni:{k}:cp:"+seal, hex.EncodeToString(sum[:])+" "+text, 0).Err(), nil, "SET")
	want(t, c.Set(ctx, "rigatoni:{k}:cp", 1, 0).Err(), nil, "SET")
	want(t, c.HSet(ctx, "rigatoni:{k}:fence", append([]any{"version", 1, "epoch", 3, "seal", seal, "due", 0, "last", 5}, fence...)...).Err(), nil, "HSET")
}

// A key of version 1 is read as it is, and the first write moves it, in one step.
func TestOldFormIsReadAndMoved(t *testing.T) {
	server := redisserver.Start(t, nil)
	c, ctx := client(t, server), t.Context()
	s := open(t, server.URL(), redisstore.Options{})
	writes := map[string]func() error{
		"Save":    func() error { return s.Save(ctx, "k", checkpoint(t, "82AA", 8)) },
		"Acquire": func() error { acquire(t, s, "k"); return nil },
		"Clear":   func() error { return s.Clear(ctx, "k") },
		"SaveFenced": func() error {
			err := s.SaveFenced(ctx, "k", state.Fence{Epoch: 9, Nonce: "x"}, checkpoint(t, "82AA", 8))
			return errorUnless(err, state.ErrFenced)
		},
		"SaveBatch": func() error {
			return errors.Join(s.SaveBatch(ctx, []state.Item{{Key: "k", Checkpoint: checkpoint(t, "82AA", 8)}, {Key: "other", Checkpoint: checkpoint(t, "82AA", 8)}})...)
		},
	}
	for name, write := range writes {
		want(t, c.FlushAll(ctx).Err(), nil, "FLUSHALL")
		writeOld(ctx, t, c, "0123456789abcdef", oldDocument)
		cp, err := s.Load(ctx, "k")
		want(t, err, nil, "Load")
		if cp.Sequence != 7 || cp.Epoch != 3 || cp.Fingerprint != "rs0/shop" {
			t.Errorf("loaded %+v", cp)
		}
		wantListed(t, s, map[string]error{"k": nil})
		if n := c.Exists(ctx, "rigatoni:{k}:cp:0123456789abcdef", "rigatoni:{k}").Val(); n != 1 {
			t.Errorf("%s: reading changed the names", name)
		}
		want(t, write(), nil, name)
		if n := c.Exists(ctx, "rigatoni:{k}:cp:0123456789abcdef", "rigatoni:{k}:cp").Val(); n != 0 || c.HGet(ctx, "rigatoni:{k}:fence", "version").Val() != "2" {
			t.Errorf("%s: it was not moved", name)
		}
		late := state.ErrStale
		if name == "Acquire" {
			late = state.ErrLeaseHeld
		}
		want(t, s.Save(ctx, "k", checkpoint(t, "82AB", 7)), late, name+", and then a late Save")
	}
}

// What was moved is what was there, last sequence and epoch included.
func TestOldFormKeepsAll(t *testing.T) {
	server := redisserver.Start(t, nil)
	c, ctx := client(t, server), t.Context()
	s := open(t, server.URL(), redisstore.Options{})
	writeOld(ctx, t, c, "0123456789abcdef", oldDocument)
	g := acquire(t, s, "k")
	if g.Fence.Epoch != 4 || g.LastSequence != 7 || g.Checkpoint.Sequence != 7 || g.Checkpoint.Epoch != 3 {
		t.Errorf("granted %+v", g)
	}
	want(t, s.SaveFenced(ctx, "k", g.Fence, checkpoint(t, "82AA", 6)), state.ErrStale, "an older save")
	cp, err := s.Load(ctx, "k")
	want(t, err, nil, "Load")
	if !cp.Equal(g.Checkpoint) {
		t.Errorf("loaded %+v, granted %+v", cp, g.Checkpoint)
	}
}

// A program of version 1 that has the lease goes on undisturbed.
func TestOldFormUnderALease(t *testing.T) {
	server := redisserver.Start(t, nil)
	c, ctx := client(t, server), t.Context()
	s := open(t, server.URL(), redisstore.Options{})
	writeOld(ctx, t, c, "0123456789abcdef", oldDocument, "nonce", "n", "owner", "old", "until", time.Now().Add(time.Hour).UnixMilli())
	was := dump(t, c, "rigatoni:{k}:fence") + dump(t, c, "rigatoni:{k}:cp:0123456789abcdef")
	_, err := s.Acquire(ctx, "k", state.LeaseRequest{Nonce: "m", TTL: time.Hour})
	want(t, err, state.ErrLeaseHeld, "Acquire")
	want(t, s.Save(ctx, "k", checkpoint(t, "82AA", 8)), state.ErrLeaseHeld, "Save")
	want(t, s.Clear(ctx, "k"), state.ErrLeaseHeld, "Clear")
	want(t, s.Forget(ctx, "k"), state.ErrLeaseHeld, "Forget")
	_, err = s.Load(ctx, "k")
	want(t, err, nil, "Load")
	for e, err := range s.List(ctx, "") {
		if want(t, err, nil, "List"); e.Owner != "old" {
			t.Errorf("listed with the owner %q", e.Owner)
		}
	}
	if dump(t, c, "rigatoni:{k}:fence")+dump(t, c, "rigatoni:{k}:cp:0123456789abcdef") != was {
		t.Error("it was changed")
	}
}

func TestOldFormOfNoCheckpoint(t *testing.T) {
	server := redisserver.Start(t, nil)
	c, ctx := client(t, server), t.Context()
	s := open(t, server.URL(), redisstore.Options{})
	for name, one := range map[string]struct {
		write func()
		want  error
	}{
		"cleared": {func() { writeOld(ctx, t, c, "ab", "") }, state.ErrNotFound},
		"expired": {func() {
			writeOld(ctx, t, c, "0", oldDocument, "due", 1)
			c.Del(ctx, "rigatoni:{k}:cp:0")
		}, state.ErrExpired},
		"evicted": {func() {
			writeOld(ctx, t, c, "ab", oldDocument)
			c.Del(ctx, "rigatoni:{k}:cp:ab")
		}, state.ErrCorrupt},
		"edited": {func() {
			writeOld(ctx, t, c, "ab", oldDocument)
			c.SetRange(ctx, "rigatoni:{k}:cp:ab", 90, "x")
		}, state.ErrCorrupt},
		"without its fence": {func() {
			writeOld(ctx, t, c, "ab", oldDocument)
			c.Del(ctx, "rigatoni:{k}:fence")
		}, state.ErrCorrupt},
	} {
		want(t, c.FlushAll(ctx).Err(), nil, "FLUSHALL")
		one.write()
		_, err := s.Load(ctx, "k")
		want(t, err, one.want, name+": Load")
		g, err := s.Acquire(ctx, "k", state.LeaseRequest{Nonce: "m", TTL: time.Hour})
		if err == nil {
			err = g.LoadErr
		}
		want(t, err, one.want, name+": Acquire")
		_, err = s.Load(ctx, "k")
		want(t, err, one.want, name+": Load after Acquire")
	}
}

// One of a key's two names is lost: the next save says so.
func TestLostApart(t *testing.T) {
	server := redisserver.Start(t, nil)
	c, ctx := client(t, server), t.Context()
	var log sharedlog.Buffer
	s := open(t, server.URL(), redisstore.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	record, fence := redisstore.Names("rigatoni:", "k")
	g := acquire(t, s, "k")
	want(t, s.SaveFenced(ctx, "k", g.Fence, checkpoint(t, "82AA", 1)), nil, "SaveFenced")
	if log.String() != "" {
		t.Errorf("logged: %s", log.String())
	}

	want(t, c.Del(ctx, record).Err(), nil, "DEL")
	_, err := s.Load(ctx, "k")
	want(t, err, state.ErrCorrupt, "Load without the record")
	want(t, s.SaveFenced(ctx, "k", g.Fence, checkpoint(t, "82AB", 2)), nil, "SaveFenced")
	if !strings.Contains(log.String(), "redis had lost the checkpoint") || !strings.Contains(log.String(), "key=k") {
		t.Errorf("the log doesn't say that the record was lost: %q", log.String())
	}
	wantSequence(t, s, "k", 2)

	want(t, c.Del(ctx, fence).Err(), nil, "DEL")
	err = s.SaveFenced(ctx, "k", g.Fence, checkpoint(t, "82AC", 3))
	want(t, err, state.ErrFenced, "SaveFenced without the fence")
	if !strings.Contains(fmt.Sprint(err), "deleted or evicted") {
		t.Errorf("the error doesn't say why: %v", err)
	}
	want(t, s.Save(ctx, "k", checkpoint(t, "82AC", 3)), state.ErrCorrupt, "Save without the fence")
	_, err = s.Load(ctx, "k")
	want(t, err, state.ErrCorrupt, "Load without the fence")
	want(t, s.Forget(ctx, "k"), nil, "Forget")
	want(t, s.Save(ctx, "k", checkpoint(t, "82AC", 3)), nil, "Save after Forget")
}

// The documented way to look at a checkpoint shows it.
func TestOneGetShowsTheCheckpoint(t *testing.T) {
	server := redisserver.Start(t, nil)
	c, ctx := client(t, server), t.Context()
	s := open(t, server.URL(), redisstore.Options{})
	want(t, s.Save(ctx, "shop", checkpoint(t, "82AA", 4)), nil, "Save")
	text := c.Get(ctx, "rigatoni:{shop}").Val()
	if !strings.HasPrefix(text, `{"version":1,"token":{"_data":"82AA"},`) || !strings.Contains(text, `"sequence":4,`) {
		t.Errorf("GET shows %s", text)
	}
	if n := c.DBSize(ctx).Val(); n != 2 {
		t.Errorf("%d names in Redis, want 2", n)
	}
}
