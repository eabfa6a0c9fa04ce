// Package state is the contract between those who keep a place in a change
// stream and those who store it.
//
// The place is a [Checkpoint]: the statement that everything up to and
// including its resume token has been delivered. A [Store] keeps one
// checkpoint for each key, through any crash, and gives it back. Programs that
// only keep a token need three methods and [At]:
//
//	cp, err := state.At(stream.ResumeToken())
//	err = store.Save(ctx, "orders", cp)
//	cp, err = store.Load(ctx, "orders") // errors.Is(err, state.ErrNotFound): a first start
//	err = store.Clear(ctx, "orders")
//
// Everything beyond that is an optional interface: leases and fences against a
// second writer ([Leaser], [Hold]), and [Lister], [BatchSaver], [Forgetter],
// [Pinger] and [io.Closer]. Find one with [As], which sees through decorators,
// or call the package function of its name.
//
// The doc comments here are the contract, and package
// [github.com/rigatoni-etl/rigatoni/state/statetest] checks each sentence of
// it: whoever writes a store of their own runs that suite.
package state

import (
	"context"
	"iter"
	"time"
)

// A Store keeps checkpoints, one for each key.
//
// Save makes cp the checkpoint of key. When it returns nil, the checkpoint is
// durable in the store's own terms, which its package doc states. When it
// fails, the key has the old checkpoint or the new one: never neither, never a
// mix. Refused before anything is touched, with [ErrInvalid]: a key that
// [CheckKey] refuses, a checkpoint without a token, a sequence over
// [MaxSequence], text that isn't UTF-8, an Extra that isn't JSON. While somebody holds a lease on the key, Save is refused with
// [ErrLeaseHeld], naming the owner; when nobody does, it is taken, and an owner
// whose lease has run out is shut out by it. Sequences are as [Checkpoint] says.
//
// Load returns the checkpoint of key. A key without one gives [ErrNotFound],
// never a zero Checkpoint and nil. Something is there and can't be read:
// [ErrCorrupt] (or [ErrNewer], if a later version of the store wrote it). It
// was there and its time to live ran out: [ErrExpired]. The store can't tell:
// [ErrUnavailable]. Only ErrNotFound may ever lead to a start at "now"; and
// whoever has loaded or saved a key before takes a later ErrNotFound for a
// loss. Load never waits for a lease.
//
// Clear takes the checkpoint away, so that Load gives ErrNotFound. Clearing a
// key that has none is success. What Clear never takes away is what protects
// the key: its epoch, and the last sequence accepted, so that a save that was
// held up on its way can't bring a cleared checkpoint back. A key that was
// never leased and whose checkpoints had no sequence leaves nothing behind.
// Clear is refused while a lease is held, as Save is.
//
// Keys are opaque: any two keys that differ in a byte are different keys, in
// every store and on every file system, whatever they are made of.
//
// All methods may be called concurrently, for the same key as well; saves and
// clears of one key happen one after the other, in some order. A Store keeps
// no reference to what it is given (Checkpoint.Extra) and gives out none to
// what it holds. A context that has ended before the call means that nothing
// happens and its error is returned; one that ends during a Save or Clear may
// leave it done or not. After Close, a store that has one answers [ErrClosed].
//
// Errors are a [*Error] around one of the sentinels of this package, with the
// cause from the store's own library in its chain.
type Store interface {
	Save(ctx context.Context, key string, cp Checkpoint) error
	Load(ctx context.Context, key string) (Checkpoint, error)
	Clear(ctx context.Context, key string) error
}

// A Lister can name the keys that it keeps.
type Lister interface {
	Store

	// List yields the keys that begin with prefix and have a checkpoint, or
	// are leased, in no particular order; keys that come or go meanwhile may be
	// missing. What goes wrong with one key is in its Entry.LoadErr, and the
	// others still come; an error beside a zero Entry ends the list.
	List(ctx context.Context, prefix string) iter.Seq2[Entry, error]
}

// An Entry is what a [Lister] says of one key.
type Entry struct {
	Key string
	// Checkpoint is the key's checkpoint, if LoadErr is nil.
	Checkpoint Checkpoint
	// Owner is who holds a lease on the key, "" for nobody.
	Owner string
	// LoadErr is the error that Load would return: [ErrNotFound] for a key that
	// is leased and has no checkpoint.
	LoadErr error
}

// A BatchSaver saves many keys at the cost of few.
type BatchSaver interface {
	Store

	// SaveBatch saves every item as Save or, where the item has a fence,
	// SaveFenced would, and returns an answer for each, in the order of items:
	// one item's failure is no other's. It is not a transaction. A key that
	// stands in items twice is refused, each time it stands there, with
	// [ErrInvalid], because the order of the two would be anyone's guess.
	SaveBatch(ctx context.Context, items []Item) []error
}

// An Item is one save of a [BatchSaver]'s batch.
type Item struct {
	Key        string
	Fence      Fence // zero: an unfenced save
	Checkpoint Checkpoint
}

// A Forgetter can take a key away with all its history.
type Forgetter interface {
	Store

	// Forget takes away the key's checkpoint, epoch, nonce and last sequence.
	// It is for keys that nobody uses any more and for tests: an old owner that
	// still lives would no longer be kept out. It is refused with
	// [ErrLeaseHeld] while a lease is held. Forgetting an absent key is success.
	Forget(ctx context.Context, key string) error
}

// A Pinger can tell whether it would answer now.
type Pinger interface {
	// Ping returns nil if the store could serve a call now, and otherwise
	// the error that the call would have got.
	Ping(ctx context.Context) error
}

// A Volatile store forgets everything when its process ends. The pipeline asks,
// because with such a store every start is a first one.
type Volatile interface {
	Volatile() bool
}

// An Expirer may take checkpoints away after a time. The pipeline asks, to warn
// where that is sooner than the server would have forgotten the place.
type Expirer interface {
	// Expires is after how long without a save, a grant or a renewal a checkpoint
	// is gone ([ErrExpired]); 0: never.
	Expires() time.Duration
}

// A Leaser can give one owner at a time the right to write a key.
//
// A lease is a promise for a time; a fence is what keeps it when the promise
// was broken (by a frozen process, a slow network, a wrong clock). Each grant
// has a [Fence] that no earlier one had, and the store refuses every write under
// a fence that is not the current one. The fence is raised when the lease is
// acquired, in the same step that reads the checkpoint: the old owner is shut
// out before the new one starts from the place that it left.
//
// Use [Hold], which does all of this, rather than these methods.
type Leaser interface {
	Store

	// Acquire grants the lease on key, with a fence whose epoch is greater
	// than every one before: release, expiry, clear and restart never lower it.
	// Held by another nonce: [ErrLeaseHeld], as a [*HeldError] that says by whom
	// and until when, unless r.Steal is set and the store can steal. The nonce
	// that holds the lease already gets the same grant again, renewed, so that
	// a caller may repeat an Acquire whose answer was lost. (Where leases end with
	// the process, it gets it from the handle that holds it; to another handle the
	// lease is held.) The owner's name is a label; it gives no right.
	//
	// A key whose checkpoint can't be read is not granted: the error is Load's.
	Acquire(ctx context.Context, key string, r LeaseRequest) (Grant, error)

	// Renew extends the lease to ttl from now, by the store's own clock, and
	// with it the checkpoint's time to live where there is one. If the fence is
	// not the current one: [ErrFenced]. A lease that ran out and that nobody took
	// since can be renewed.
	Renew(ctx context.Context, key string, f Fence, ttl time.Duration) error

	// Release ends the lease; the next Acquire need not wait. If the fence is
	// not the current one, there is nothing to release, and that is success.
	Release(ctx context.Context, key string, f Fence) error

	// SaveFenced is Save for the owner: refused with [ErrFenced], and nothing
	// written, if the fence is not the current one. The zero fence never is.
	SaveFenced(ctx context.Context, key string, f Fence, cp Checkpoint) error

	// ClearFenced is Clear for the owner: refused with [ErrFenced] if the fence
	// is not the current one. The lease is kept.
	ClearFenced(ctx context.Context, key string, f Fence) error
}

// A LeaseRequest says who asks for a lease, and for how long.
type LeaseRequest struct {
	// Owner is a label for people: it stands in the error of whoever is refused.
	Owner string
	// Nonce makes this holder unlike every other, made (by [NewNonce]) before the
	// first attempt, so that a repeated attempt finds itself. Required.
	Nonce string
	// TTL is how long the lease lasts without a renewal. Required, at least a
	// millisecond; stores whose leases end with their process ignore it.
	TTL time.Duration
	// Steal takes the lease from a holder that is alive.
	Steal bool
}

// A Grant is what [Leaser.Acquire] gives.
type Grant struct {
	Fence Fence
	// Checkpoint is the key's checkpoint, if LoadErr is nil.
	Checkpoint Checkpoint
	// LoadErr is [ErrNotFound] if the key has no checkpoint, [ErrExpired] if it
	// had one whose time to live ran out, and otherwise nil.
	LoadErr error
	// LastSequence is the last sequence that was accepted for the key, 0 for
	// none. The owner goes on from it.
	LastSequence uint64
}

// A Fence is what a lease gives: an epoch that only grows, and the holder's
// nonce. Stores compare both for equality, because a replica that took over
// from a master may give an epoch a second time. The zero Fence is none.
type Fence struct {
	Epoch uint64
	Nonce string
}

// IsZero tells whether f is no fence.
func (f Fence) IsZero() bool { return f == Fence{} }
