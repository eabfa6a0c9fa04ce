package redisstore

import (
	"context"
	"errors"
	"iter"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/state"
)

// scanCount is how many names one SCAN looks at. Redis does nothing else meanwhile.
const scanCount = 1000

// List is [state.Lister]'s. It goes through all names of the database with SCAN,
// a thousand at a time in two round trips, and keeps in memory which keys it has
// named. A checkpoint that has expired is listed, with [state.ErrExpired].
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[state.Entry, error] {
	return func(yield func(state.Entry, error) bool) {
		seen := make(map[string]bool)
		for cursor := uint64(0); ; {
			entries, next, err := s.listPage(ctx, prefix, cursor)
			if err != nil {
				yield(state.Entry{}, s.fail("list", "", err))
				return
			}
			for _, e := range entries {
				if !seen[e.Key] && !yield(e, nil) {
					return
				}
				seen[e.Key] = true
			}
			if cursor = next; cursor == 0 {
				return
			}
		}
	}
}

func (s *Store) listPage(ctx context.Context, prefix string, cursor uint64) ([]state.Entry, uint64, error) {
	var entries []state.Entry
	var next uint64
	pattern := escapeGlob(s.opts.KeyPrefix) + "{" + encodeKey(prefix) + "*}:*"
	err := s.try(ctx, "", true, func(ctx context.Context) error {
		names, after, err := s.client.Scan(ctx, cursor, pattern, scanCount).Result()
		if err != nil {
			return err
		}
		next = after
		entries, err = s.entries(ctx, s.keysOf(names))
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return entries, next, nil
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

// entries loads the keys in one round trip.
func (s *Store) entries(ctx context.Context, keys []string) ([]state.Entry, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	pipe := s.client.Pipeline()
	cmds := make([]onceCmd, len(keys))
	for i, key := range keys {
		cmds[i] = s.command(ctx, "evalsha", loadScript.sha, call{script: loadScript, key: key})
		if err := pipe.Process(ctx, cmds[i]); err != nil {
			return nil, err
		}
	}
	if _, err := pipe.Exec(ctx); err != nil && !isAnswer(err) {
		return nil, err
	}
	var entries []state.Entry
	for i, key := range keys {
		r, err := answer(cmds[i].Cmd)
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			r, err = s.run(ctx, call{script: loadScript, key: key})
		}
		if err != nil && (!isAnswer(err) || classify(err) != final) {
			return nil, err
		}
		if e, there := s.entry(key, r, err); there {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// entry makes an entry of load's answer. A key is not there if it was cleared and
// only its history is kept.
func (s *Store) entry(key string, r reply, err error) (e state.Entry, there bool) {
	e.Key = key
	if err != nil {
		err = describe(err)
	} else if err = r.refusal(); err == nil {
		e.Owner = r.text(4)
		e.Checkpoint, err = r.checkpoint(0)
	}
	if errors.Is(err, state.ErrNotFound) && r.number(3) == 0 {
		return e, false
	}
	e.Err = s.fail("load", key, err)
	return e, true
}

// isAnswer tells whether err is a server's, about one command.
func isAnswer(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer)
}
