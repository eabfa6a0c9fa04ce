package changestream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// open opens the stream for the first time.
func (r *reader) open(ctx context.Context, from startPoint) error {
	if from.position.Token.IsZero() {
		if err := r.findPosition(ctx, from.time); err != nil {
			return r.cantOpen(err)
		}
		if r.cs != nil {
			return nil
		}
	} else {
		r.moveTo(from.position)
	}
	for attempt := 0; ; attempt++ {
		err := r.watch(ctx)
		switch {
		case err == nil:
			return nil
		case r.judge(err, atAggregate) != badEvent, attempt == 10:
			return r.cantOpen(err)
		}
		if err := r.carefully(ctx, err, atAggregate); err != nil || r.whole.Raw != nil {
			return err
		}
	}
}

// judge is judge for a stream that may have a pipeline of the user's.
func (r *reader) judge(err error, from origin) verdict {
	v := judge(err, from)
	if r.fingerprint.scope.pipeline.id != "" && (v == unknown || code(err) == codeBadValue) && failsOnEvent(err) {
		return badEvent
	}
	return v
}

func (r *reader) cantOpen(err error) error {
	if r.judge(err, atAggregate) == lost {
		return r.lost(err)
	}
	return r.fingerprint.scope.refused("open the change stream", err)
}

// findPosition finds the position of a time, or of now, and for now keeps the
// cursor: whatever is written after that is in it.
//
// With batchSize 0 the server doesn't look for events yet, so that the token of
// the reply is before every event of the stream.
func (r *reader) findPosition(ctx context.Context, t bson.Timestamp) error {
	o := r.watchOptions().SetBatchSize(0)
	if !t.IsZero() {
		o.SetStartAtOperationTime(&t)
	}
	cs, err := r.fingerprint.scope.watch(ctx, r.src.client, o, nil)
	if err != nil {
		return err
	}
	token, err := resumetoken.New(cs.ResumeToken())
	if err != nil {
		return errors.Join(errors.New("the server gives no resume token with an empty batch; MongoDB 4.2 or later does"), cs.Close(ctx))
	}
	pos := rigatoni.Position{Token: token, ClusterTime: t}
	if d, err := token.Decode(); err == nil {
		pos.ClusterTime = d.ClusterTime
	}
	r.moveTo(pos)
	r.hold(cs)
	if t.IsZero() {
		cs.SetBatchSize(int32(r.src.opts.BatchSize))
		return nil
	}
	// Whether the oplog reaches back to t shows only when the server looks, which
	// it does at once when the stream is opened at the position.
	r.drop(ctx)
	return nil
}

func (r *reader) hold(cs *mongo.ChangeStream) {
	r.cs, r.cursor, r.fresh, r.movedAt = cs, cs.ID(), true, time.Now()
}

// watch opens the cursor at the position.
//
// startAfter takes every token, resumeAfter every one but that of an invalidate
// event; but a server may not know startAfter (Amazon DocumentDB).
func (r *reader) watch(ctx context.Context) error {
	useStartAfter := r.at.StartAfter || !r.src.noStartAfter.Load()
	cs, err := r.watchAt(ctx, useStartAfter)
	if unknownOption(err) && useStartAfter && !r.at.StartAfter {
		var errResume error
		if cs, errResume = r.watchAt(ctx, false); errResume == nil {
			r.src.noStartAfter.Store(true)
			err = nil
		}
	}
	if err != nil {
		return err
	}
	r.hold(cs)
	return nil
}

// unknownOption reports whether the server refuses an option, which may be
// startAfter.
func unknownOption(err error) bool {
	c := code(err)
	return c == codeUnknownField || c == codeNotSupportedThere
}

func (r *reader) watchAt(ctx context.Context, startAfter bool) (*mongo.ChangeStream, error) {
	o := r.watchOptions()
	if r.careful > 0 {
		o.SetBatchSize(1)
	}
	return r.watchWith(ctx, o, startAfter)
}

// watchWith opens a cursor at the position, with stages after the scope's.
func (r *reader) watchWith(ctx context.Context, o *options.ChangeStreamOptionsBuilder, startAfter bool, stages ...bson.D) (*mongo.ChangeStream, error) {
	at := resumePointOf(r.at)
	switch {
	case r.over && at != nil:
		at.over = true
		o.SetStartAtOperationTime(&at.time)
	case startAfter:
		o.SetStartAfter(r.at.Token.Raw())
	default:
		o.SetResumeAfter(r.at.Token.Raw())
	}
	return r.fingerprint.scope.watch(ctx, r.src.client, o, at, stages...)
}

func (r *reader) watchOptions() *options.ChangeStreamOptionsBuilder {
	opts := r.src.opts
	o := options.ChangeStream().SetBatchSize(int32(opts.BatchSize)).SetMaxAwaitTime(opts.MaxAwait)
	if r.copying {
		o.SetMaxAwaitTime(min(copyAwait, opts.MaxAwait))
	}
	// What is the server's default anyway is not sent: it may not know the option.
	if f := opts.FullDocument; f != "" && f != "default" {
		o.SetFullDocument(options.FullDocument(f))
	}
	if f := opts.FullDocumentBeforeChange; f != "" && f != "off" {
		o.SetFullDocumentBeforeChange(options.FullDocument(f))
	}
	return o
}

// reopen makes one attempt, after the pause that is due. Afterwards r.cs is nil
// if another is to be made.
func (r *reader) reopen(ctx context.Context) error {
	if err := r.outage.pause(ctx); err != nil {
		return err
	}
	err := r.attempt(ctx)
	if err == nil {
		return nil
	}
	r.drop(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch v := r.judge(err, atAggregate); {
	case errors.Is(err, rigatoni.ErrChangedStream):
		return err
	case v == lost:
		return r.lost(err)
	case v == badEvent:
		return r.carefully(ctx, err, atAggregate)
	case v == refused:
		return r.fingerprint.scope.refused("reopen the change stream", err)
	case r.hopeless(v):
		return r.fingerprint.scope.refused(r.inVain("reopen the change stream"), err)
	}
	r.outage.begin(err)
	return nil
}

// attempt opens the cursor and verifies that it is of the same deployment. After a
// failure the server is asked something short first: connections that lead nowhere
// any more, of which there may be several, are found by that, one by one. The client
// then uses the connection that has just worked.
func (r *reader) attempt(ctx context.Context) error {
	if r.outage.lasts() {
		if err := r.src.ping(ctx, r.src.limits.margin); err != nil {
			return err
		}
		r.bury(ctx)
	}
	within, cancel := limited(ctx, r.src.limits.opening<<min(r.slow, 10))
	defer cancel()
	switch err := r.watch(within); {
	case err == nil:
		r.slow = 0
	case isLate(within):
		r.slow++
		return &lateError{took: r.src.limits.opening << min(r.slow-1, 10), err: err}
	default:
		return err
	}
	return r.verify(ctx)
}

// hopeless reports whether errors that we don't know have come for so long, and
// nothing else, that they won't pass.
func (r *reader) hopeless(v verdict) bool {
	switch {
	case v != unknown:
		r.unknownSince = time.Time{}
	case r.unknownSince.IsZero():
		r.unknownSince = time.Now()
	default:
		return time.Since(r.unknownSince) > r.src.limits.unknown
	}
	return false
}

func (r *reader) inVain(doing string) string {
	return fmt.Sprintf("%s, which was tried for %v", doing, r.src.limits.unknown)
}

// verify returns a [rigatoni.ChangedStreamError] if the cursor, opened again, is of
// another deployment than the stream. A high-water mark belongs to no event that a
// server could miss: one whose data was discarded and which was set up again takes
// it for a position before its first event.
func (r *reader) verify(ctx context.Context) error {
	within, cancel := limited(ctx, r.src.limits.margin)
	defer cancel()
	id, err := r.src.identify(within)
	switch {
	case err != nil && ctx.Err() == nil && isLate(within):
		return &lateError{took: r.src.limits.margin, err: err}
	case err != nil:
		return err
	}
	return fingerprint{deployment: id.deployment, scope: r.fingerprint.scope}.compare(r.fingerprint.String())
}

// interrupted handles the error of an open stream, and returns one if it can't be
// reopened.
func (r *reader) interrupted(ctx context.Context, err error) error {
	r.drop(ctx)
	if errors.Is(err, rigatoni.ErrChangedStream) {
		return err
	}
	switch v := r.judge(err, atGetMore); v {
	case lost:
		// The driver may have resumed the stream by itself, from an event that the
		// user's pipeline hides by now (see resumePoint). Reopening shows which.
		if r.fingerprint.scope.pipeline.id == "" || code(err) != codeChangeStreamFatal || r.doubted == r.at.Token {
			return r.lost(err)
		}
		r.doubted = r.at.Token
	case badEvent:
		return r.carefully(ctx, err, atGetMore)
	case refused:
		return r.fingerprint.scope.refused("read the change stream", err)
	case unknown, retry:
		if r.hopeless(v) {
			return r.fingerprint.scope.refused(r.inVain("read the change stream"), err)
		}
	}
	r.outage.begin(err)
	return nil
}

// lost is the error for a position that is never tried again.
func (r *reader) lost(err error) error {
	why := ""
	switch code(err) {
	case codeHistoryLost, codeCappedPositionLost:
		why = "; its oplog no longer reaches back to it"
	case codeChangeStreamFatal:
		why = "; it can't find the event, which may be of a stream with other collections or of another server"
	}
	return &streamError{
		text:   fmt.Sprintf("%s: %v, of %s%s (%s)", r.fingerprint.scope, rigatoni.ErrHistoryLost, clock(r.at.ClusterTime), why, codeOf(err)),
		causes: []error{rigatoni.ErrHistoryLost, err},
	}
}
