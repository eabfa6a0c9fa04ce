package redisstore

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/stores/redisstore/internal/keyspace"
)

func init() {
	keyspace.Of = func(store any) keyspace.Reader { return keyReader{store.(*Store)} }
}

// A keyReader reads keys that are not the store's own.
type keyReader struct{ s *Store }

func (r keyReader) Get(ctx context.Context, name string) (string, bool, error) {
	var value string
	var found bool
	err := r.s.try(ctx, name, true, func(ctx context.Context, c redis.UniversalClient) error {
		cmd := redis.NewCmd(ctx, "get", name)
		cmd.SetFirstKeyPos(1)
		err := c.Process(ctx, onceCmd{cmd})
		if errors.Is(err, redis.Nil) {
			value, found = "", false
			return nil
		}
		value, found = cmd.Val().(string)
		return err
	})
	if err != nil {
		return "", false, err // an attempt of a lent client may still write the others
	}
	return value, found, nil
}

func (r keyReader) Names(ctx context.Context, prefix string) ([]string, error) {
	var names []string
	err := r.s.try(ctx, "", true, func(ctx context.Context, all redis.UniversalClient) error {
		pages := make(chan []string, 1000) // one per master
		err := r.s.masters(ctx, all, func(ctx context.Context, c *redis.Client) error {
			page, err := scan(ctx, c, escapeGlob(prefix)+"*")
			pages <- page
			return err
		})
		close(pages)
		names = nil
		for page := range pages {
			names = append(names, page...)
		}
		return err
	})
	if err != nil {
		return nil, err // as in Get
	}
	return names, nil
}

// scan returns the names on one server that match a pattern.
func scan(ctx context.Context, c *redis.Client, pattern string) ([]string, error) {
	seen := make(map[string]bool) // SCAN may return a name twice
	var names []string
	for cursor := uint64(0); ; {
		cmd := redis.NewScanCmd(ctx, c.Process, "scan", cursor, "match", pattern, "count", scanCount)
		if err := c.Process(ctx, cmd); err != nil {
			return nil, err
		}
		page, next := cmd.Val()
		for _, name := range page {
			if !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
		if cursor = next; cursor == 0 {
			return names, nil
		}
	}
}

// legacyPrefix is that of the Rust crate rigatoni-stores.
const legacyPrefix = "rigatoni:resume_token:"

// Legacy implements [state.Legacy]. It returns the names in Redis of the tokens that the
// Rust crate rigatoni-stores keeps, for package rustcrate.
func (s *Store) Legacy(ctx context.Context) ([]string, error) {
	names, err := keyReader{s}.Names(ctx, legacyPrefix)
	return names, s.fail("list", "", err)
}
