package redisstore_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

// What the crate writes: SET with the document in BSON, with EX where it has a TTL.
func TestLoadCrate(t *testing.T) {
	server, ctx := redisserver.Start(t, nil), t.Context()
	c, s := client(t, server), open(t, server.URL(), redisstore.Options{})
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
		token, err := s.LoadCrate(ctx, name)
		want(t, err, target, name)
		if err == nil && string(token.Raw()) != string(doc) {
			t.Errorf("%s: another token", name)
		}
		var e *state.Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("%s: %v is no *state.Error", name, err)
		}
	}
	names, err := s.CrateNames(ctx)
	want(t, err, nil, "CrateNames")
	slices.Sort(names)
	if !slices.Equal(names, []string{"__db:shop", "empty", "json", "list", "torn", "users"}) {
		t.Errorf("CrateNames: %q", names)
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
	want(t, s.Save(ctx, "resume_token:x", checkpoint(t, "82AA", 1)), nil, "Save")
	if again, err := s.CrateNames(ctx); err != nil || len(again) != len(names) {
		t.Errorf("CrateNames: %q, %v", again, err)
	}
	for e, err := range s.List(ctx, "") {
		if err != nil || e.Key != "resume_token:x" {
			t.Errorf("listed %q, %v", e.Key, err)
		}
	}
}

func TestCrateInACluster(t *testing.T) {
	cluster := redisserver.StartCluster(t, &redisserver.ClusterOptions{Replicas: -1})
	s, ctx := open(t, cluster.URL(), redisstore.Options{}), t.Context()
	doc, err := bson.Marshal(bson.D{{Key: "_data", Value: "8263A1"}})
	want(t, err, nil, "Marshal")
	for i := range 20 {
		name := fmt.Sprintf("c%d", i)
		slot, err := cluster.Slot(ctx, redisstore.CratePrefix+name)
		want(t, err, nil, "Slot")
		node, err := cluster.MasterOf(ctx, slot)
		want(t, err, nil, "MasterOf")
		_, err = node.Do(ctx, "SET", redisstore.CratePrefix+name, string(doc))
		want(t, err, nil, "SET")
		_, err = s.LoadCrate(ctx, name)
		want(t, err, nil, name)
	}
	if names, err := s.CrateNames(ctx); err != nil || len(names) != 20 {
		t.Errorf("CrateNames: %q, %v", names, err)
	}
}
