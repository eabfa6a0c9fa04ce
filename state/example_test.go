package state_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

// resumeToken stands for what the driver's ChangeStream.ResumeToken returns.
func resumeToken() bson.Raw {
	token, err := bson.Marshal(bson.D{{Key: "_data", Value: "8260EC7417000000012B0229296E04"}})
	if err != nil {
		log.Fatal(err)
	}
	return token
}

// Three methods and At are all that a program needs that does nothing but keep
// its place.
func Example() {
	ctx := context.Background()
	store := memstore.New()

	_, err := store.Load(ctx, "orders")
	fmt.Println("a first start:", errors.Is(err, state.ErrNotFound))

	// After everything up to the token has been delivered, never before:
	cp, err := state.At(resumeToken())
	if err != nil {
		log.Fatal(err)
	}
	if err := store.Save(ctx, "orders", cp); err != nil {
		log.Fatal(err)
	}

	cp, err = store.Load(ctx, "orders")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("go on after:", cp.Token)
	// Output:
	// a first start: true
	// go on after: resume token (2021-07-12T16:55:51Z, 47 bytes)
}

// Of two processes on one stream, the second is refused, and told by whom.
func ExampleHold() {
	ctx := context.Background()
	store := memstore.New()

	lease, err := state.Hold(ctx, store, "orders", &state.HoldOptions{Owner: "host-a/17", TTL: 15 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	_, err = state.Hold(ctx, store, "orders", &state.HoldOptions{Owner: "host-b/4", Wait: -1})
	var held *state.HeldError
	fmt.Println("refused:", errors.As(err, &held), held.Owner)

	// The holder resumes from this checkpoint and continues its numbering.
	grant := lease.Grant()
	sequence := grant.LastSequence
	fmt.Println("a first start:", errors.Is(grant.LoadErr, state.ErrNotFound))

	// Before each delivery:
	if err := lease.Valid(); err != nil {
		log.Fatal(err)
	}
	// After it:
	cp, err := state.At(resumeToken())
	if err != nil {
		log.Fatal(err)
	}
	sequence++
	cp.Sequence = sequence
	if err := lease.Save(ctx, cp); err != nil {
		log.Fatal(err)
	}
	if err := lease.Release(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("may go on:", lease.Valid())
	// Output:
	// refused: true host-a/17
	// a first start: true
	// may go on: state: hold "orders": fenced off: the lease is no longer held: it was released
}

// One function around every call of a store: here, how often each is made.
func ExampleIntercept() {
	ctx := context.Background()
	calls := map[state.Op]int{}
	store := state.Intercept(memstore.New(), func(ctx context.Context, c state.Call, next func(context.Context) error) error {
		calls[c.Op]++
		return next(ctx)
	})

	cp, err := state.At(resumeToken())
	if err != nil {
		log.Fatal(err)
	}
	if err := store.Save(ctx, "orders", cp); err != nil {
		log.Fatal(err)
	}
	for entry, err := range state.List(ctx, store, "") { // a capability of the store below
		fmt.Println(entry.Key, err)
	}
	fmt.Println(calls)
	// Output:
	// orders <nil>
	// map[list:1 save:1]
}
