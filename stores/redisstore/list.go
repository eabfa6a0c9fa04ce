package redisstore

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/state"
)

// scanCount is how many names one SCAN looks at. Redis does nothing else meanwhile.
const scanCount = 1000

// List is [state.Lister]'s. It goes through all names of the database with SCAN,
// a thousand at a time in two round trips, and keeps in memory which keys it has
// named. In a Cluster it does so on every master; one that does not answer is an
// error. A key that moves from one to another meanwhile is listed once: if it lies in
// two places and stays there, with [state.ErrUnavailable]. A checkpoint that has
// expired is listed, with [state.ErrExpired].
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[state.Entry, error] {
	return func(yield func(state.Entry, error) bool) {
		l := lister{store: s, ctx: ctx, yield: yield, seen: make(map[string]bool),
			pattern: escapeGlob(s.opts.KeyPrefix) + "{" + encodeKey(prefix) + "*}*"}
		if err := l.all(); err != nil && !l.ended {
			yield(state.Entry{}, s.fail("list", "", err))
		}
	}
}

// A lister is one List.
type lister struct {
	store   *Store
	ctx     context.Context // of the call that the lister is
	pattern string
	yield   func(state.Entry, error) bool
	ended   bool // yield said so
	seen    map[string]bool
}

// all lists the server or, in a Cluster, every master, and then those that have become
// masters since.
func (l *lister) all() error {
	if l.store.cluster == nil {
		return l.node(nil)
	}
	done := make(map[string]bool)
	for {
		nodes, err := l.nodes(done)
		if err != nil || len(nodes) == 0 {
			return err
		}
		for _, node := range nodes {
			if err := l.node(node); err != nil || l.ended {
				return err
			}
			done[node.Options().Addr] = true
		}
	}
}

// nodes returns the masters of a Cluster except those with the addresses.
func (l *lister) nodes(but map[string]bool) ([]*redis.Client, error) {
	var mu sync.Mutex
	var nodes []*redis.Client
	err := l.store.try(l.ctx, "", true, func(ctx context.Context, _ redis.UniversalClient) error {
		mu.Lock()
		nodes = nil
		mu.Unlock()
		return l.store.cluster.ForEachMaster(ctx, func(_ context.Context, c *redis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			if !but[c.Options().Addr] {
				nodes = append(nodes, c)
			}
			return nil
		})
	})
	mu.Lock()
	defer mu.Unlock()
	return slices.Clone(nodes), err
}

// node lists one master of a Cluster, or the only server if it is nil.
func (l *lister) node(node *redis.Client) error {
	for cursor := uint64(0); ; {
		entries, next, err := l.page(node, cursor)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !l.seen[e.Key] && !l.yield(e, nil) {
				l.ended = true
				return nil
			}
			l.seen[e.Key] = true
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

func (l *lister) page(node *redis.Client, cursor uint64) (entries []state.Entry, next uint64, err error) {
	var names []string
	err = l.store.try(l.ctx, "", true, func(ctx context.Context, c redis.UniversalClient) (err error) {
		if node != nil {
			c = node
		}
		names, next, err = c.Scan(ctx, cursor, l.pattern, scanCount).Result()
		return err
	})
	if err != nil {
		return nil, 0, err // and the results may still be written to
	}
	entries, err = l.store.entries(l.ctx, l.store.keysOf(names))
	return entries, next, err
}

// keysOf are the keys that the names in Redis belong to, each once.
func (s *Store) keysOf(names []string) []string {
	var keys []string
	seen := make(map[string]bool, len(names))
	for _, name := range names {
		if key, ours := s.keyOf(name); ours && !seen[key] {
			seen[key] = true
			keys = append(keys, key)
		}
	}
	return keys
}

// entries loads the keys.
func (s *Store) entries(ctx context.Context, keys []string) ([]state.Entry, error) {
	calls := make([]call, len(keys))
	for i, key := range keys {
		calls[i] = call{script: loadScript, key: key, again: true}
	}
	var entries []state.Entry
	for i, o := range s.callAll(ctx, calls) {
		if unavailableAll(o.err) || ctx.Err() != nil || errors.Is(o.err, state.ErrClosed) {
			return nil, o.err
		}
		if e, there := s.entry(keys[i], o.reply, o.err); there {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// entry makes an entry of load's reply. A key is not there if it was cleared and only
// its history is kept.
func (s *Store) entry(key string, r reply, err error) (e state.Entry, there bool) {
	e.Key = key
	if err != nil {
		err = describe(err)
	} else {
		if e.Owner = r.text(4); e.Owner != "" {
			e.Until = time.Now().Add(time.Duration(r.number(3)) * time.Millisecond)
		}
		e.Checkpoint, err = r.checkpoint()
	}
	if errors.Is(err, state.ErrNotFound) && r.number(3) == 0 {
		return e, false
	}
	e.LoadErr = s.fail("load", key, err)
	return e, true
}

// isAnswer reports whether err is a server's, about one command.
func isAnswer(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer)
}
