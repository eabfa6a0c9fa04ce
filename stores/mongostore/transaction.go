package mongostore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/rigatoni-etl/rigatoni/internal/backoff"
	"github.com/rigatoni-etl/rigatoni/internal/mongoclient"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// SaveTx is SaveFenced inside a transaction of the caller's: ctx has its session
// ([mongo.NewSessionContext]), on the deployment of the store. It is the first statement of
// the transaction, whose commit has a majority write concern. The update conflicts with
// every other change of the record until the transaction ends: an owner that has lost the
// lease gets an error (state.ErrFenced), and one that loses it later can't commit.
//
// repeated means that the checkpoint is saved already: an earlier attempt was committed,
// and its answer was lost. The caller then writes nothing more.
//
// [Transactions] does all of this.
func (s *Store) SaveTx(ctx context.Context, key string, f state.Fence, cp state.Checkpoint) (repeated bool, err error) {
	if err := record.CheckSave(key, cp); err != nil {
		return false, s.fail("save", key, err)
	}
	filter, update := conditional(key, f, cp)
	repeated, err = s.admitTx(ctx, key, f, cp, filter, update)
	return repeated, s.fail("save", key, s.explainTx(ctx, err))
}

// admitTx makes an update whose filter is that of [conditional].
func (s *Store) admitTx(ctx context.Context, key string, f state.Fence, cp state.Checkpoint, filter, update bson.D) (repeated bool, err error) {
	if f.IsZero() || f.Epoch > math.MaxInt64 {
		return false, state.ErrFenced
	}
	r, err := s.coll.UpdateOne(ctx, filter, update)
	if err != nil || r.MatchedCount == 1 {
		return false, err
	}
	raw, err := find(ctx, s.coll, key)
	if err != nil {
		return false, err
	}
	var rec record.Record
	if raw != nil {
		if rec, _, err = decode(raw); err != nil {
			return false, err
		}
	}
	if _, err := record.Admit(rec, f, cp, time.Now()); err != nil {
		return false, err
	}
	if !record.IsRepetition(rec, cp) {
		return false, fmt.Errorf("%w: the record is admitted, and its update matches nothing", state.ErrCorrupt)
	}
	// A write, so that the commit waits until a majority has what was read.
	_, err = s.coll.UpdateOne(ctx, fenced(key, f), touch())
	return true, err
}

// fenced is the filter of the record of a key under a fence.
func fenced(key string, f state.Fence) bson.D {
	return bson.D{
		{Key: "_id", Value: key}, {Key: "version", Value: int64(version)},
		{Key: "epoch", Value: int64(f.Epoch)}, {Key: "nonce", Value: f.Nonce},
	}
}

// touch is an update that makes another revision, and so conflicts with every other one.
func touch(more ...bson.E) bson.D {
	return bson.D{{Key: "$set", Value: append(bson.D{{Key: "rev", Value: bson.NewObjectID()}}, more...)}}
}

// explainTx is explain, for an error inside a transaction: one that the server has labeled
// as a conflict stays recognizable.
func (s *Store) explainTx(ctx context.Context, err error) error {
	if err != nil && isTransient(err) {
		return fmt.Errorf("%w: %w", state.ErrUnavailable, reason{err})
	}
	return s.explain(ctx, err)
}

// Transactions are those of one owner of a key: each writes a checkpoint, and whatever else
// the caller writes, both or neither, and only under the fence of the owner.
//
// They use one session of the server, which is on record beside the lease. An owner that
// hangs or is frozen inside a transaction holds up nobody: who acquires the lease ends the
// session, and with it the transaction (killSessions, which needs no right for a user's own
// sessions). A transaction that this owner has given up, and whose commit may still be under
// way, ends when the next one of the session begins.
//
// The methods are called one at a time.
type Transactions struct {
	store   *Store
	key     string
	fence   state.Fence // of which the session is on record
	session *mongo.Session
}

// Transactions returns those of an owner of key.
func (s *Store) Transactions(key string) (*Transactions, error) {
	session, err := s.client.StartSession(options.Session().SetCausalConsistency(false).SetDefaultTransactionOptions(
		options.Transaction().SetReadConcern(readconcern.Snapshot()).SetReadPreference(readpref.Primary()).SetWriteConcern(writeconcern.Majority())))
	if err != nil {
		return nil, s.fail("begin", key, s.explain(context.Background(), err))
	}
	return &Transactions{store: s, key: key, session: session}, nil
}

// Close ends the session, and a transaction in it that may still be under way. (It is not
// given back to the driver's pool: another owner may end it at any time.)
func (t *Transactions) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), mongoclient.DisconnectTime)
	defer cancel()
	t.store.kill(ctx, t.session.ID())
}

// Save calls do in a transaction that also saves cp under f. ctx of do has the session: the
// driver's calls with it are part of the transaction. If an earlier call with the same
// checkpoint was committed and its answer was lost, do is not called, and the error is nil.
//
// A transaction that the server ends because of a conflict with other writes is repeated;
// so do may be called several times. After any other error the transaction may have been
// committed or not: the same call again finds out. An error of do ends the transaction
// without a trace.
func (t *Transactions) Save(ctx context.Context, f state.Fence, cp state.Checkpoint, do func(ctx context.Context) error) error {
	if err := record.CheckSave(t.key, cp); err != nil {
		return t.store.fail("save", t.key, err)
	}
	return t.run(ctx, f, func(ctx context.Context) error {
		repeated, err := t.store.SaveTx(ctx, t.key, f, cp)
		if err != nil || repeated {
			return err
		}
		return do(ctx)
	})
}

// Before calls do in a transaction that goes before the one that saves cp: it is admitted as
// that would be, and leaves the checkpoint as it is. repeated means that cp is saved already,
// and do was not called. Otherwise it is as Save; do must be harmless to repeat.
func (t *Transactions) Before(ctx context.Context, f state.Fence, cp state.Checkpoint, do func(ctx context.Context) error) (repeated bool, err error) {
	if err := record.CheckSave(t.key, cp); err != nil {
		return false, t.store.fail("save", t.key, err)
	}
	err = t.run(ctx, f, func(ctx context.Context) (err error) {
		filter, _ := conditional(t.key, f, cp)
		repeated, err = t.store.admitTx(ctx, t.key, f, cp, filter, touch())
		if err != nil {
			return t.store.fail("save", t.key, t.store.explainTx(ctx, err))
		}
		if repeated {
			return nil
		}
		return do(ctx)
	})
	return repeated, err
}

// Fenced calls do in a transaction that is committed only under f, and leaves the
// checkpoint as it is. Otherwise it is as Save; do must be harmless to repeat.
func (t *Transactions) Fenced(ctx context.Context, f state.Fence, do func(ctx context.Context) error) error {
	return t.run(ctx, f, func(ctx context.Context) error {
		if err := t.store.touchTx(ctx, t.key, f); err != nil {
			return t.store.fail("lock", t.key, t.store.explainTx(ctx, err))
		}
		return do(ctx)
	})
}

func (s *Store) touchTx(ctx context.Context, key string, f state.Fence) error {
	if f.IsZero() || f.Epoch > math.MaxInt64 {
		return state.ErrFenced
	}
	r, err := s.coll.UpdateOne(ctx, fenced(key, f), touch())
	if err == nil && r.MatchedCount == 0 {
		err = state.ErrFenced
	}
	return err
}

// run runs a transaction, and again if the server ended it because of others.
func (t *Transactions) run(ctx context.Context, f state.Fence, do func(context.Context) error) error {
	if err := t.store.ready(ctx); err != nil {
		return t.store.fail("begin", t.key, err)
	}
	if err := t.announce(ctx, f); err != nil {
		return t.store.fail("begin", t.key, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, t.store.opts.TransactionTimeout, errTooLong)
	defer cancel()
	for n := 0; ; n++ {
		err := t.once(ctx, do)
		if err == nil || !isConflict(err) || backoff.Wait(ctx, backoff.Duration(time.Millisecond, 100*time.Millisecond, n)) != nil {
			return t.explain(ctx, err)
		}
	}
}

// errTooLong is why a transaction ended that took longer than the options allow.
var errTooLong = errors.New("the time that Options.TransactionTimeout allows is over")

func (t *Transactions) explain(ctx context.Context, err error) error {
	if err == nil || !errors.Is(context.Cause(ctx), errTooLong) {
		return err
	}
	return t.store.fail("save", t.key, fmt.Errorf(
		"%w: the transaction took longer than %v (transaction-timeout), which is limited because the lease can't be renewed meanwhile; smaller batches take less: %w",
		state.ErrUnavailable, t.store.opts.TransactionTimeout, err))
}

// announce puts the session on record, under the fence.
func (t *Transactions) announce(ctx context.Context, f state.Fence) error {
	if t.fence == f && !f.IsZero() {
		return nil
	}
	if f.IsZero() || f.Epoch > math.MaxInt64 {
		return state.ErrFenced
	}
	err := t.store.call(ctx, func(ctx context.Context) error {
		r, err := t.store.coll.UpdateOne(ctx, fenced(t.key, f), touch(bson.E{Key: "session", Value: t.session.ID()}))
		if err == nil && r.MatchedCount == 0 {
			err = state.ErrFenced
		}
		return err
	})
	if err == nil {
		t.fence = f
	}
	return err
}

// once runs a transaction once.
func (t *Transactions) once(ctx context.Context, do func(context.Context) error) error {
	if err := t.session.StartTransaction(); err != nil {
		return t.store.fail("begin", t.key, t.store.explain(ctx, err))
	}
	if err := do(mongo.NewSessionContext(ctx, t.session)); err != nil {
		t.abort(ctx)
		return err
	}
	if err := t.session.CommitTransaction(ctx); err != nil {
		return t.store.fail("commit", t.key, t.store.explainTx(ctx, err))
	}
	return nil
}

// abort ends a transaction that is not to be committed. If that fails, the next one of the
// session ends it, or the next owner.
func (t *Transactions) abort(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.store.opts.CallTimeout)
	defer cancel()
	_ = t.session.AbortTransaction(ctx)
}

// isTransient reports whether the server says of a transaction's error that the whole
// transaction may be tried again: a conflict, or the loss of the server.
func isTransient(err error) bool {
	var labeled mongo.LabeledError
	return errors.As(err, &labeled) && labeled.HasErrorLabel("TransientTransactionError")
}

// isConflict reports whether a transaction had no effect because of other writes, or an
// election. (The label alone is also on errors of the network.)
func isConflict(err error) bool {
	var answer mongo.ServerError
	return isTransient(err) && errors.As(err, &answer) && !mongo.IsNetworkError(err) && !mongo.IsTimeout(err)
}

// kill ends the session of an owner that is replaced, and the transaction in it. Where the
// server doesn't allow that, its transaction ends with transactionLifetimeLimitSeconds.
func (s *Store) kill(ctx context.Context, session bson.Raw) {
	cmd := bson.D{{Key: "killSessions", Value: bson.A{session}}}
	_ = s.coll.Database().RunCommand(ctx, cmd, options.RunCmd().SetReadPreference(readpref.Primary())).Err()
}
