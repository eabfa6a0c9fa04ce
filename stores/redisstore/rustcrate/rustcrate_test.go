package rustcrate_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/stores/redisstore/rustcrate"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

func client(t *testing.T, s *redisserver.Server) *redis.Client {
	o, err := redis.ParseURL(s.URL())
	want(t, err, nil, "ParseURL")
	c := redis.NewClient(o)
	t.Cleanup(func() { c.Close() })
	return c
}

func open(t *testing.T, url string) *redisstore.Store {
	s, err := redisstore.Open(t.Context(), url, &redisstore.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { want(t, s.Close(), nil, "Close") })
	return s
}

func want(t *testing.T, err, target error, what string) {
	t.Helper()
	if !errors.Is(err, target) || target == nil && err != nil {
		t.Errorf("%s: %v, want %v", what, err, target)
	}
}

// dump returns a key's value as Redis serializes it.
func dump(t *testing.T, c *redis.Client, key string) string {
	t.Helper()
	value, err := c.Dump(t.Context(), key).Result()
	want(t, err, nil, "DUMP "+key)
	return value
}

// What the crate writes: SET with the document in BSON, with EX where it has a TTL.
func TestLoad(t *testing.T) {
	server, ctx := redisserver.Start(t, nil), t.Context()
	c, s := client(t, server), open(t, server.URL())
	doc, err := bson.Marshal(bson.D{{Key: "_data", Value: "8263A1"}, {Key: "_typeBits", Value: bson.Binary{Data: []byte{1}}}})
	want(t, err, nil, "Marshal")
	want(t, c.Set(ctx, "rigatoni:resume_token:users", doc, 0).Err(), nil, "SET")
	want(t, c.Set(ctx, "rigatoni:resume_token:__db:shop", doc, time.Hour).Err(), nil, "SET")
	want(t, c.Set(ctx, "rigatoni:resume_token:torn", doc[:len(doc)-3], 0).Err(), nil, "SET")
	want(t, c.Set(ctx, "rigatoni:resume_token:empty", "", 0).Err(), nil, "SET")
	want(t, c.Set(ctx, "rigatoni:resume_token:json", `{"_data":"8263A1"}`, 0).Err(), nil, "SET")
	want(t, c.RPush(ctx, "rigatoni:resume_token:list", "x").Err(), nil, "RPUSH")
	before := map[string]string{}
	for _, k := range c.Keys(ctx, "*").Val() {
		before[k] = dump(t, c, k)
	}
	for name, target := range map[string]error{
		"users": nil, "__db:shop": nil, "never": state.ErrNotFound, "torn": state.ErrCorrupt, "empty": state.ErrCorrupt,
		"json": state.ErrCorrupt, "list": state.ErrCorrupt, "": state.ErrInvalid,
	} {
		token, err := rustcrate.Load(ctx, s, name)
		want(t, err, target, name)
		if err == nil && string(token.Raw()) != string(doc) {
			t.Errorf("%s: another token", name)
		}
		var e *state.Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("%s: %v is no *state.Error", name, err)
		}
	}
	names, err := rustcrate.Names(ctx, s)
	want(t, err, nil, "Names")
	slices.Sort(names)
	if !slices.Equal(names, []string{"__db:shop", "empty", "json", "list", "torn", "users"}) {
		t.Errorf("Names: %q", names)
	}
	legacy, err := s.Legacy(ctx)
	want(t, err, nil, "Legacy")
	slices.Sort(legacy)
	for i, name := range names {
		if i >= len(legacy) || legacy[i] != rustcrate.Prefix+name {
			t.Errorf("Legacy: %q, and the names are %q", legacy, names)
			break
		}
	}
	for k, v := range before {
		if dump(t, c, k) != v {
			t.Errorf("%s was changed", k)
		}
	}
	if ttl := c.TTL(ctx, "rigatoni:resume_token:__db:shop").Val(); ttl <= 0 {
		t.Errorf("the crate's time to live is %v now", ttl)
	}
	// The store's own keys are not the crate's, and the other way round.
	cp, err := state.At(doc)
	want(t, err, nil, "At")
	want(t, s.Save(ctx, "resume_token:x", cp), nil, "Save")
	if again, err := rustcrate.Names(ctx, s); err != nil || len(again) != len(names) {
		t.Errorf("Names: %q, %v", again, err)
	}
	for e, err := range s.List(ctx, "") {
		if err != nil || e.Key != "resume_token:x" {
			t.Errorf("listed %q, %v", e.Key, err)
		}
	}
}

func TestCluster(t *testing.T) {
	cluster := redisserver.StartCluster(t, &redisserver.ClusterOptions{Replicas: -1})
	s, ctx := open(t, cluster.URL()), t.Context()
	doc, err := bson.Marshal(bson.D{{Key: "_data", Value: "8263A1"}})
	want(t, err, nil, "Marshal")
	for i := range 20 {
		name := fmt.Sprintf("c%d", i)
		slot, err := cluster.Slot(ctx, rustcrate.Prefix+name)
		want(t, err, nil, "Slot")
		node, err := cluster.MasterOf(ctx, slot)
		want(t, err, nil, "MasterOf")
		_, err = node.Do(ctx, "SET", rustcrate.Prefix+name, string(doc))
		want(t, err, nil, "SET")
		_, err = rustcrate.Load(ctx, s, name)
		want(t, err, nil, name)
	}
	if names, err := rustcrate.Names(ctx, s); err != nil || len(names) != 20 {
		t.Errorf("Names: %q, %v", names, err)
	}
}
