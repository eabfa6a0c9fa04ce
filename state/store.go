// Package state is the contract between programs that keep a checkpoint in a
// change stream and the stores that persist it.
//
// A [Checkpoint] states that everything up to and including its resume token has
// been delivered. A [Store] keeps one checkpoint for each key, across crashes.
// Programs that only keep a token need three methods and [At]:
//
//	cp, err := state.At(stream.ResumeToken())
//	err = store.Save(ctx, "orders", cp)
//	cp, err = store.Load(ctx, "orders") // errors.Is(err, state.ErrNotFound): a first start
//	err = store.Clear(ctx, "orders")
//
// Everything else is an optional interface: leases and fences against a second
// writer ([Leaser], [Hold]), and [Lister], [BatchSaver], [Forgetter], [Pinger] and
// [io.Closer]. Find one with [As], which also finds it behind decorators, or call
// the package function of the same name.
//
// The doc comments of this package are the contract. Package
// [github.com/rigatoni-etl/rigatoni/state/statetest] checks a store against them,
// sentence by sentence, and package
// [github.com/rigatoni-etl/rigatoni/state/record] is the kit for authors of a
// store.
package state

import (
	"context"
	"iter"
	"time"
)

// A Store keeps checkpoints, one for each key.
//
// Save makes cp the checkpoint of key. If it returns nil, the checkpoint is
// durable in the sense that the store's package documents. If it fails, the key
// has the old checkpoint or the new one, never neither and never a mix. Save
// returns [ErrInvalid], and changes nothing, for a key that [CheckKey] refuses, a
// checkpoint without a token, a sequence above [MaxSequence], text that isn't
// UTF-8, and an Extra that isn't JSON. While another owner holds a lease on the
// key, Save returns [ErrLeaseHeld], naming the owner. If the lease has expired,
// Save succeeds and fences off its owner. [Checkpoint] documents sequences.
//
// Load returns the checkpoint of key. For a key without one it returns
// [ErrNotFound], never a zero Checkpoint and nil. If there is one that can't be
// read, it returns [ErrCorrupt], or [ErrNewer] if a later version of the store
// wrote it. If its time to live has expired, it returns [ErrExpired]. If the store
// can't answer, it returns [ErrUnavailable]. Only ErrNotFound may lead to a start
// at "now", and a caller that has loaded or saved the key before treats a later
// ErrNotFound as data loss. Load never waits for a lease.
//
// Clear removes the checkpoint, so that Load returns ErrNotFound. Clearing a key
// that has none succeeds. Clear keeps what protects the key: its epoch and the
// last accepted sequence, so that a delayed save can't bring a cleared checkpoint
// back. A key that was never leased and whose checkpoints had no sequence leaves
// nothing behind. Clear is refused while a lease is held, as Save is.
//
// Keys are opaque: two keys that differ in any byte are different keys, in every
// store and on every file system.
//
// All methods may be called concurrently, also for the same key; saves and clears
// of one key take effect one after the other, in some order. A Store keeps no
// reference to the memory of its arguments (Checkpoint.Extra), and returns none to
// its own. If the context is done before the call, nothing happens and the
// context's error is returned; if it ends during a Save or Clear, that may or may
// not have taken effect. After Close, a store that has that method returns
// [ErrClosed].
//
// Every error is an [*Error] that wraps one of the sentinels of this package, with
// the cause from the store's own library in its chain.
type Store interface {
	Save(ctx context.Context, key string, cp Checkpoint) error
	Load(ctx context.Context, key string) (Checkpoint, error)
	Clear(ctx context.Context, key string) error
}

// A Lister lists its keys.
type Lister interface {
	Store

	// List yields the keys that begin with prefix and have a checkpoint or a
	// lease, in no particular order. Keys that are added or removed meanwhile may
	// be missing. The error of one key is in its Entry.LoadErr, and the list goes
	// on; an error beside a zero Entry ends the list.
	List(ctx context.Context, prefix string) iter.Seq2[Entry, error]
}

// An Entry describes one key of a [Lister].
type Entry struct {
	Key string
	// Checkpoint is the key's checkpoint, if LoadErr is nil.
	Checkpoint Checkpoint
	// Owner is the owner of the lease on the key, "" if there is none.
	Owner string
	// Until is the time at which that lease expires if it is not renewed, by this
	// machine's clock. It is zero if there is no lease, if the lease ends with its
	// owner's process, and if the store can't tell.
	Until time.Time
	// LoadErr is the error that Load would return: [ErrNotFound] for a key that
	// is leased and has no checkpoint.
	LoadErr error
}

// A BatchSaver saves many keys in one call.
type BatchSaver interface {
	Store

	// SaveBatch saves each item as Save would or, if the item has a fence, as
	// SaveFenced would, and returns one error per item, in the order of items. The
	// failure of one item doesn't affect the others: it is not a transaction. All
	// items of a key that occurs more than once are refused with [ErrInvalid],
	// because their order would be undefined.
	SaveBatch(ctx context.Context, items []Item) []error
}

// An Item is one save of a batch.
type Item struct {
	Key        string
	Fence      Fence // zero: an unfenced save
	Checkpoint Checkpoint
}

// A Forgetter removes a key with all its history.
type Forgetter interface {
	Store

	// Forget removes the key's checkpoint, epoch, nonce and last sequence. It is
	// for keys that are no longer used and for tests: it no longer protects the
	// key from an old owner that is still running. It returns [ErrLeaseHeld] while
	// a lease is held. Forgetting an absent key succeeds.
	Forget(ctx context.Context, key string) error
}

// A Pinger reports whether it is available.
type Pinger interface {
	// Ping returns nil if the store could serve a call now, and otherwise the
	// error that the call would return.
	Ping(ctx context.Context) error
}

// A Volatile store loses everything when its process ends. The pipeline checks
// this because with such a store every start is a first start.
type Volatile interface {
	Volatile() bool
}

// An Expirer may remove checkpoints after a time. The pipeline checks this to warn
// if that is sooner than the server forgets the position.
type Expirer interface {
	// Expires returns the time without a save, grant or renewal after which a
	// checkpoint expires ([ErrExpired]), and 0 if it never does.
	Expires() time.Duration
}

// A Reopener is a store whose place can be taken by another, or by nothing, while it
// is open: a directory that is removed, or that another one is mounted over
// ([ErrReplaced]). The pipeline leaves there what it knows when it ends, so that the
// next start does not take the new store for one that never had a checkpoint.
type Reopener interface {
	// Reopen opens what is in the store's place now, and makes it if there is
	// nothing. The caller closes it.
	Reopen(ctx context.Context) (Store, error)
}

// A Legacy store can find the resume tokens that another program left beside its keys.
// The pipeline checks this at a first start, which would skip what that program has not
// delivered.
type Legacy interface {
	// Legacy returns the names of those tokens in the store, in no particular order.
	Legacy(ctx context.Context) ([]string, error)
}

// A Leaser grants one owner at a time the right to write a key.
//
// A lease is a promise for a limited time. A fence upholds it when the promise is
// broken, by a frozen process, a slow network or a wrong clock. Each grant has a
// [Fence] that no earlier grant had, and the store refuses every write under a
// fence that is not the current one. Acquire changes the fence in the same step
// that reads the checkpoint: the old owner is fenced off before the new owner
// resumes from the checkpoint that it left.
//
// Use [Hold], which calls these methods, instead of calling them directly.
type Leaser interface {
	Store

	// Acquire grants the lease on key, with a fence whose epoch is greater than
	// every earlier one: release, expiry, clear and restart never lower it. If
	// another nonce holds the lease, Acquire returns [ErrLeaseHeld], as a
	// [*HeldError] that names the owner and the end of the lease, unless r.Steal
	// is set and the store supports it. The nonce that already holds the lease
	// gets the same grant again, renewed, so that a caller may repeat an Acquire
	// whose response was lost. (Where leases end with the process, only the handle
	// that holds the lease repeats the grant; for another handle the lease is held.)
	// The owner's name is a label; it gives no right.
	//
	// A key whose checkpoint can't be read is not granted: the error is Load's.
	Acquire(ctx context.Context, key string, r LeaseRequest) (Grant, error)

	// Renew extends the lease to ttl from now, by the store's own clock, and
	// likewise the checkpoint's time to live, if there is one. It returns
	// [ErrFenced] if the fence is not the current one. An expired lease that nobody
	// has acquired since can be renewed.
	Renew(ctx context.Context, key string, f Fence, ttl time.Duration) error

	// Release ends the lease, so that the next Acquire need not wait. If the fence
	// is not the current one, there is nothing to release, and Release succeeds.
	Release(ctx context.Context, key string, f Fence) error

	// SaveFenced is Save for the owner of the lease. It returns [ErrFenced], and
	// writes nothing, if the fence is not the current one. The zero fence never is.
	SaveFenced(ctx context.Context, key string, f Fence, cp Checkpoint) error

	// ClearFenced is Clear for the owner of the lease. It returns [ErrFenced] if
	// the fence is not the current one. The lease is kept.
	ClearFenced(ctx context.Context, key string, f Fence) error
}

// A LeaseRequest describes the lease that a caller asks for.
type LeaseRequest struct {
	// Owner is a label for people: the error of a caller that is refused has it.
	Owner string
	// Nonce distinguishes this holder from every other. Make it with [NewNonce]
	// before the first attempt, and keep it for further ones, so that a repeated
	// attempt finds its own lease. Required.
	Nonce string
	// TTL is how long the lease lasts without a renewal, at least a millisecond.
	// Required; stores whose leases end with their process ignore the value.
	TTL time.Duration
	// Steal takes the lease from a live holder.
	Steal bool
}

// A Grant is the result of [Leaser.Acquire].
type Grant struct {
	Fence Fence
	// Checkpoint is the key's checkpoint, if LoadErr is nil.
	Checkpoint Checkpoint
	// LoadErr is [ErrNotFound] if the key has no checkpoint, [ErrExpired] if its
	// time to live has expired, and otherwise nil.
	LoadErr error
	// LastSequence is the last sequence that was accepted for the key, 0 for none.
	// The owner's saves continue from it.
	LastSequence uint64
}

// A Fence identifies a grant: an epoch that only grows, and the holder's nonce.
// Stores compare both for equality, because a replica that takes over from a
// master may issue an epoch a second time. The zero Fence is no fence.
type Fence struct {
	Epoch uint64
	Nonce string
}

// IsZero reports whether f is no fence.
func (f Fence) IsZero() bool { return f == Fence{} }
