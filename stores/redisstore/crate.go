package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
)

// CratePrefix begins the names under which the Rust crate rigatoni-stores keeps
// its resume tokens in Redis.
const CratePrefix = "rigatoni:resume_token:"

// LoadCrate reads the resume token that the Rust crate rigatoni-stores has saved in
// this database under CratePrefix and name, and writes nothing. With it a pipeline
// of the crate is moved over without losing its place; stop that one first:
//
//	token, err := store.LoadCrate(ctx, "users")
//	cp, err := state.At(token.Raw())
//	err = store.Save(ctx, "shop", cp) // under the name of the new pipeline
//
// The crate's pipeline (0.2) has two places for each stream. It saves one when it
// has read an event, and one when it has delivered a batch. Take the second: from
// the first, what was read and not delivered is lost.
//
//	watch level   delivered up to    read up to
//	collection    users              resume_token:shop:users
//	database      __db:shop          resume_token:database:shop
//	deployment    __deployment__     resume_token:deployment
//
// (What it had delivered of a collection it keeps without the database's name: two
// databases with collections of one name shared that place.) [Store.CrateNames]
// tells which there are. The crate's key stays where it is, for the way back; it is
// the caller's to delete.
//
// No token under that name: [state.ErrNotFound]. The crate may have set a time to
// live, and one that ran out leaves nothing behind, so that this is no proof of a
// first start. What can't be read as the crate's: [state.ErrCorrupt]. It takes
// the right to GET on the crate's names.
func (s *Store) LoadCrate(ctx context.Context, name string) (resumetoken.Token, error) {
	token, err := s.loadCrate(ctx, name)
	return token, s.fail("load crate", name, err)
}

func (s *Store) loadCrate(ctx context.Context, name string) (resumetoken.Token, error) {
	if name == "" {
		return resumetoken.Token{}, fmt.Errorf("%w: the name under which the crate has the token is empty", state.ErrInvalid)
	}
	var raw []byte
	missing := false
	err := s.try(ctx, name, true, func(ctx context.Context) error {
		cmd := redis.NewCmd(ctx, "get", CratePrefix+name)
		cmd.SetFirstKeyPos(1)
		err := s.client.Process(ctx, onceCmd{cmd})
		if missing = errors.Is(err, redis.Nil); missing {
			return nil
		}
		text, _ := cmd.Val().(string)
		raw = []byte(text)
		return err
	})
	switch {
	case err != nil:
		return resumetoken.Token{}, err
	case missing:
		return resumetoken.Token{}, fmt.Errorf("%w of the crate's under %s", state.ErrNotFound, CratePrefix+name)
	}
	token, err := resumetoken.New(raw)
	if err != nil {
		return resumetoken.Token{}, fmt.Errorf("%w: what lies under %s is no resume token in BSON: %w", state.ErrCorrupt, CratePrefix+name, err)
	}
	return token, nil
}

// CrateNames are the names under which the Rust crate has resume tokens in this
// database, in no particular order. In a Cluster it looks at all shards.
func (s *Store) CrateNames(ctx context.Context) ([]string, error) {
	var names []string
	err := s.try(ctx, "", true, func(ctx context.Context) error {
		found := make(chan []string, 1000) // masters
		err := s.masters(ctx, func(ctx context.Context, c *redis.Client) error {
			here, err := scanCrate(ctx, c)
			found <- here
			return err
		})
		close(found)
		names = nil
		for here := range found {
			names = append(names, here...)
		}
		return err
	})
	if err != nil {
		return nil, s.fail("list crate", "", err)
	}
	return names, nil
}

func scanCrate(ctx context.Context, c *redis.Client) ([]string, error) {
	seen := make(map[string]bool) // SCAN may give a name twice
	var names []string
	for cursor := uint64(0); ; {
		cmd := redis.NewScanCmd(ctx, c.Process, "scan", cursor, "match", CratePrefix+"*", "count", scanCount)
		if err := c.Process(ctx, cmd); err != nil {
			return nil, err
		}
		page, next := cmd.Val()
		for _, n := range page {
			if name := strings.TrimPrefix(n, CratePrefix); !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
		if cursor = next; cursor == 0 {
			return names, nil
		}
	}
}
