package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

// The rights that the package doc lists, which are enough for everything, and of
// which none is too many.
var (
	scriptRights   = strings.Fields("+evalsha +eval +ping +time +exists +get +set +strlen +del +pexpireat +persist +hget +hmget +hset +hdel")
	listRights     = []string{"+scan"}
	infoRights     = []string{"+info"}
	waitRights     = []string{"+wait"}
	sentinelRights = []string{"+role"}
	clusterRights  = []string{"+cluster|slots"}
	// A Sentinel's own user.
	watcherRights = []string{"+sentinel|get-master-addr-by-name", "+sentinel|master"}
)

const keyRight = "~rigatoni:*"

// setRights gives the user bob these rights and no others, on every server.
func setRights(t *testing.T, servers []*redisserver.Server, rights ...string) {
	t.Helper()
	for _, s := range servers {
		args := append([]string{"ACL", "SETUSER", "bob", "reset", "on", ">" + secret}, rights...)
		if v, err := s.Do(t.Context(), args...); err != nil || v != "OK" {
			t.Fatalf("ACL SETUSER: %v, %v", v, err)
		}
	}
}

// everything does all that a store can do, so that each command of each script
// runs, and joins the errors.
func everything(ctx context.Context, t *testing.T, s *redisstore.Store, key string) error {
	var errs []error
	do := func(name string, err error, others ...error) {
		if err != nil && !slices.ContainsFunc(others, func(o error) bool { return errors.Is(err, o) }) {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	do("Ping", s.Ping(ctx))
	do("Forget", s.Forget(ctx, key))
	do("Save", s.Save(ctx, key, checkpoint(t, "82AA", 1)))
	do("Save again", s.Save(ctx, key, checkpoint(t, "82AA", 1)))
	r := state.LeaseRequest{Owner: "o", Nonce: state.NewNonce(), TTL: time.Hour}
	g, err := s.Acquire(ctx, key, r)
	do("Acquire", err)
	_, err = s.Acquire(ctx, key, state.LeaseRequest{Nonce: "other", TTL: time.Hour})
	do("Acquire by another", err, state.ErrLeaseHeld)
	do("Save by another", s.Save(ctx, key, checkpoint(t, "82AA", 2)), state.ErrLeaseHeld)
	do("SaveFenced", s.SaveFenced(ctx, key, g.Fence, checkpoint(t, "82AA", 2)))
	do("SaveFenced", s.SaveFenced(ctx, key, g.Fence, checkpoint(t, "82AB", 3)))
	do("Renew", s.Renew(ctx, key, g.Fence, time.Hour))
	_, err = s.Load(ctx, key)
	do("Load", err)
	_, err = s.Load(ctx, "never")
	do("Load", err, state.ErrNotFound)
	for e, err := range s.List(ctx, key) {
		do("List", errors.Join(err, e.LoadErr))
	}
	for _, err := range state.SaveBatch(ctx, s, []state.Item{{Key: key, Fence: g.Fence, Checkpoint: checkpoint(t, "82AC", 4)}}) {
		do("SaveBatch", err)
	}
	do("ClearFenced", s.ClearFenced(ctx, key, g.Fence))
	do("Release", s.Release(ctx, key, g.Fence))
	short, err := s.Acquire(ctx, key, state.LeaseRequest{Nonce: "short", TTL: time.Millisecond})
	do("Acquire", err)
	time.Sleep(2 * time.Millisecond)
	do("Save over a lease that ran out", s.Save(ctx, key, checkpoint(t, "82AD", 5)), state.ErrLeaseHeld)
	do("Release", s.Release(ctx, key, short.Fence))
	do("Clear", s.Clear(ctx, key))
	do("Forget", s.Forget(ctx, key))
	return errors.Join(errs...)
}

// With and without a TTL, and from one to the other.
func everythingTwice(ctx context.Context, t *testing.T, u string, o redisstore.Options) error {
	var errs []error
	key := state.NewNonce() // what a run without all rights leaves behind is in no later one's way
	o.Logger, o.MaxRetries = quiet, -1
	open := func(ttl time.Duration) *redisstore.Store {
		o.TTL = ttl
		s, err := redisstore.Open(ctx, u, &o)
		errs = append(errs, err)
		return s
	}
	mortal, lasting := open(time.Hour), open(0)
	for _, s := range []*redisstore.Store{mortal, lasting} {
		if s == nil {
			return errors.Join(errs...)
		}
		defer s.Close()
		errs = append(errs, everything(ctx, t, s, key))
	}
	g, err := mortal.Acquire(ctx, key, state.LeaseRequest{Nonce: "n", TTL: time.Hour})
	errs = append(errs, err, mortal.SaveFenced(ctx, key, g.Fence, checkpoint(t, "82AE", 9)),
		lasting.Renew(ctx, key, g.Fence, time.Hour), mortal.Renew(ctx, key, g.Fence, time.Hour),
		lasting.Release(ctx, key, g.Fence), lasting.Forget(ctx, key))
	return errors.Join(errs...)
}

func TestLeastRights(t *testing.T) {
	kinds := map[string]func(t *testing.T) (u string, servers []*redisserver.Server, o redisstore.Options, rights []string){
		"one server": func(t *testing.T) (string, []*redisserver.Server, redisstore.Options, []string) {
			s := redisserver.Start(t, nil)
			return s.URL(), []*redisserver.Server{s}, redisstore.Options{}, nil
		},
		"Sentinel and WAIT": func(t *testing.T) (string, []*redisserver.Server, redisstore.Options, []string) {
			s := redisserver.StartSentinel(t, &redisserver.SentinelOptions{Sentinels: 1})
			return s.URL(), s.Nodes, redisstore.Options{WaitReplicas: 1}, append(waitRights, sentinelRights...)
		},
		"Cluster": func(t *testing.T) (string, []*redisserver.Server, redisstore.Options, []string) {
			c := redisserver.StartCluster(t, &redisserver.ClusterOptions{Replicas: -1})
			return c.URL(), c.Nodes, redisstore.Options{}, clusterRights
		},
	}
	for name, start := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, servers, o, special := start(t)
			o.Username, o.Password = "bob", secret
			rights := slices.Concat([]string{keyRight}, scriptRights, listRights, infoRights, special)
			setRights(t, servers, rights...)
			want(t, everythingTwice(t.Context(), t, u, o), nil, "with all rights")
			for i, right := range rights {
				fewer := slices.Delete(slices.Clone(rights), i, i+1)
				setRights(t, servers, fewer...)
				for _, s := range servers { // where the scripts are there already, nobody needs EVAL
					_, err := s.Do(t.Context(), "SCRIPT", "FLUSH")
					want(t, err, nil, "SCRIPT FLUSH")
				}
				err := everythingTwice(t.Context(), t, u, o)
				switch {
				case slices.Contains(infoRights, right):
					want(t, err, nil, "without "+right+", which costs a warning")
				case slices.Contains(scriptRights, right) && !strings.Contains(fmt.Sprint(err), "redisstore: open"):
					t.Errorf("without %s: %v, want it to be refused at opening", right, err)
				case !errors.Is(err, state.ErrRefused) || !strings.Contains(err.Error(), "lacks a right"):
					t.Errorf("without %s: %v, want one that says that a right is lacking", right, err)
				}
				noSecret(t, fmt.Sprint(err))
			}
		})
	}
}

// The Sentinels have users of their own.
func TestLeastRightsOfAWatcher(t *testing.T) {
	s := redisserver.StartSentinel(t, &redisserver.SentinelOptions{Sentinels: 1})
	o := redisstore.Options{SentinelUsername: "bob", SentinelPassword: secret, Logger: quiet}
	setRights(t, s.Sentinels, watcherRights...)
	store := open(t, s.URL(), o)
	want(t, store.Ping(t.Context()), nil, "Ping")
	for i, right := range watcherRights {
		setRights(t, s.Sentinels, slices.Delete(slices.Clone(watcherRights), i, i+1)...)
		_, err := redisstore.Open(t.Context(), s.URL(), &o)
		want(t, err, state.ErrRefused, "without "+right)
		if err != nil && !strings.Contains(err.Error(), "lacks a right") {
			t.Errorf("without %s: %v", right, err)
		}
		noSecret(t, fmt.Sprint(err))
	}
}

// The check of rights at opening knows every command of every script.
func TestRightsCoverTheScripts(t *testing.T) {
	files, err := filepath.Glob("scripts/*.lua")
	want(t, err, nil, "Glob")
	probe, err := os.ReadFile("scripts/rights.lua")
	want(t, err, nil, "ReadFile")
	commands := regexp.MustCompile(`redis\.p?call\('([A-Z]+)'`)
	found := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		want(t, err, nil, "ReadFile")
		for _, m := range commands.FindAllStringSubmatch(string(text), -1) {
			found++
			if !strings.Contains(string(probe), "{'"+m[1]+"'") {
				t.Errorf("%s runs %s, and scripts/rights.lua does not", file, m[1])
			}
			if !slices.Contains(scriptRights, "+"+strings.ToLower(m[1])) {
				t.Errorf("%s runs %s, which is not among the rights that are listed", file, m[1])
			}
		}
	}
	doc, err := os.ReadFile("redisstore.go")
	want(t, err, nil, "ReadFile")
	for _, right := range slices.Concat([]string{keyRight}, scriptRights, infoRights, listRights, sentinelRights, clusterRights, waitRights, watcherRights) {
		if !strings.Contains(string(doc), right) {
			t.Errorf("the package doc does not tell of the right %s", right)
		}
	}
	if found < 20 {
		t.Errorf("only %d commands were found in the scripts", found)
	}
}
