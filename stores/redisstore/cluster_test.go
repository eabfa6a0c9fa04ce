package redisstore_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

// A Cluster that doesn't know its nodes' hosts is used at the host of the URL, also for
// redirections.
func TestUnknownEndpoints(t *testing.T) {
	for _, version := range []string{"", redisserver.Valkey9} {
		cluster := redisserver.StartCluster(t, &redisserver.ClusterOptions{
			Options:  redisserver.Options{Version: version, Config: []string{"cluster-preferred-endpoint-type unknown-endpoint"}},
			Replicas: -1,
		})
		ctx := t.Context()
		s := open(t, cluster.URL(), redisstore.Options{})
		for i := range 20 {
			want(t, s.Save(ctx, fmt.Sprint("k", i), checkpoint(t, "82AA", 1)), nil, "Save")
		}
		slot, err := cluster.Slot(ctx, "rigatoni:{k1}")
		want(t, err, nil, "Slot")
		from, err := cluster.MasterOf(ctx, slot)
		want(t, err, nil, "MasterOf")
		to := cluster.Nodes[0]
		if to == from {
			to = cluster.Nodes[1]
		}
		want(t, cluster.MoveSlot(ctx, slot, to), nil, "MoveSlot")
		want(t, s.Save(ctx, "k1", checkpoint(t, "82AB", 2)), nil, "Save after the slot has moved")
		wantSequence(t, s, "k1", 2)
		n := 0
		for e, err := range s.List(ctx, "") {
			want(t, err, nil, "List")
			want(t, e.LoadErr, nil, e.Key)
			n++
		}
		if n != 20 {
			t.Errorf("%d keys are listed, want 20", n)
		}
	}
}

// Valkey's Cluster may have numbered databases.
func TestClusterDatabases(t *testing.T) {
	cluster := redisserver.StartCluster(t, &redisserver.ClusterOptions{
		Options: redisserver.Options{Version: redisserver.Valkey9, Config: []string{"cluster-databases 16"}}, Replicas: -1,
	})
	ctx := t.Context()
	three, zero := open(t, cluster.URL()+"/3", redisstore.Options{}), open(t, cluster.URL(), redisstore.Options{})
	for i := range 5 {
		key := fmt.Sprint("k", i)
		want(t, three.Save(ctx, key, checkpoint(t, "82AA", 1)), nil, "Save")
		wantSequence(t, three, key, 1)
		_, err := zero.Load(ctx, key)
		want(t, err, state.ErrNotFound, "Load from database 0")
	}
	_, err := redisstore.Open(ctx, "redis://"+cluster.Addrs()[0], nil)
	want(t, err, state.ErrRefused, "a URL of one server")
	if !strings.Contains(fmt.Sprint(err), "is part of a Redis Cluster; write redis+cluster://") {
		t.Errorf("a URL of one server: %v", err)
	}
}
