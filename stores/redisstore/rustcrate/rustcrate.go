// Package rustcrate reads the resume tokens that the Rust crate rigatoni-stores
// (0.2) keeps in Redis, to move a pipeline over without losing its position. It
// writes nothing. Stop the crate's pipeline first:
//
//	token, err := rustcrate.Load(ctx, store, "users")
//	cp, err := state.At(token.Raw())
//	err = store.Save(ctx, "shop", cp) // under the name of the new pipeline
//
// The crate's pipeline saves two tokens for each stream: one when it has read an
// event, and one when it has delivered a batch. Take the second: with the first,
// events that were read and not delivered are lost.
//
//	watch level   delivered up to    read up to
//	collection    users              resume_token:shop:users
//	database      __db:shop          resume_token:database:shop
//	deployment    __deployment__     resume_token:deployment
//
// The name of a collection's token lacks the database, so two databases with
// collections of the same name shared one token. [Names] returns the names that
// exist.
//
// It takes the rights to GET on ~rigatoni:resume_token:* and, for Names, to SCAN.
package rustcrate

import (
	"context"
	"fmt"
	"strings"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore/internal/keyspace"
)

// Prefix is the prefix of the crate's keys in Redis.
const Prefix = "rigatoni:resume_token:"

// Load returns the token that the crate saved under Prefix and name, in the
// database that s uses. The crate's key stays as it is, for the way back.
//
// Without such a key the error is [state.ErrNotFound]. The crate may have set a
// time to live, and an expired key leaves nothing behind, so this doesn't prove
// that there was no token. A value that is not the crate's is a
// [state.ErrCorrupt].
func Load(ctx context.Context, s *redisstore.Store, name string) (resumetoken.Token, error) {
	token, err := load(ctx, keyspace.Of(s), name)
	if err != nil {
		return resumetoken.Token{}, &state.Error{Op: "load", Store: "rustcrate", Key: name, Err: err}
	}
	return token, nil
}

func load(ctx context.Context, r keyspace.Reader, name string) (resumetoken.Token, error) {
	if name == "" {
		return resumetoken.Token{}, fmt.Errorf("%w: the name is empty", state.ErrInvalid)
	}
	value, found, err := r.Get(ctx, Prefix+name)
	switch {
	case err != nil:
		return resumetoken.Token{}, err
	case !found:
		return resumetoken.Token{}, fmt.Errorf("%w: Redis has no key %s", state.ErrNotFound, Prefix+name)
	}
	token, err := resumetoken.New([]byte(value))
	if err != nil {
		return resumetoken.Token{}, fmt.Errorf("%w: the value of %s is not a resume token in BSON: %w", state.ErrCorrupt, Prefix+name, err)
	}
	return token, nil
}

// Names returns the names under which the crate has tokens in the database that s
// uses, in no particular order. In a Cluster it looks at all shards.
func Names(ctx context.Context, s *redisstore.Store) ([]string, error) {
	names, err := keyspace.Of(s).Names(ctx, Prefix)
	if err != nil {
		return nil, &state.Error{Op: "list", Store: "rustcrate", Err: err}
	}
	for i, name := range names {
		names[i] = strings.TrimPrefix(name, Prefix)
	}
	return names, nil
}
