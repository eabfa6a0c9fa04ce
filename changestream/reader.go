package changestream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// A reader has the cursor and its position. It is used by one goroutine at a
// time, as a loop of steps: each reads one of the server's batches or makes one
// attempt to reopen.
type reader struct {
	src         *Source
	fingerprint fingerprint
	log         *slog.Logger
	outage      *outage
	call        call

	cs     *mongo.ChangeStream // nil: to be opened at the position
	cursor int64               // its id when its deployment was last verified
	fresh  bool                // nothing has been read from cs yet
	at     rigatoni.Position

	// stalls counts the getMores in a row that got no reply in time: each doubles the
	// time that the next one may take, for a line on which a reply of 16 MB takes
	// that long. slow counts the attempts to reopen that took too long.
	stalls, slow int
	// orphan is a cursor whose connection was given up. The server frees it when it
	// is asked to, or after ten minutes.
	orphan int64

	unknownSince time.Time // the first of the errors that we don't know; zero: there is none

	// careful counts the events that are still to be read one by one, because an
	// error about an event loses its whole batch.
	careful int
	// over: the event of the position itself can't be read (any more). It was
	// delivered, so the stream is opened over it, see [resumePoint].
	over bool
	// whole is the next event, which was read in parts; without contents if there is
	// none.
	whole rigatoni.Event
	// doubted is the token at which the server was last asked a second time
	// whether it can't find it.
	doubted resumetoken.Token

	movedAt time.Time
	alarmed bool

	// copying: a snapshot is under way, which waits for the stream.
	copying bool
	// quiet is the token of the batch that the last step read, if it was empty.
	quiet resumetoken.Token
}

var errCursorClosed = errors.New("the server closed the cursor")

func newReader(s *Source, fp fingerprint, name string) *reader {
	log := s.log.With("stream", name, "watching", fp.scope.String())
	o := &outage{log: log, min: s.opts.ReopenMin, max: s.opts.ReopenMax}
	return &reader{src: s, fingerprint: fp, log: log, outage: o, call: call{outage: o}}
}

// step reads one batch, or tries to reopen. No events and no error: nothing new.
func (r *reader) step(ctx context.Context) ([]rigatoni.Event, error) {
	r.quiet = resumetoken.Token{}
	if r.cs == nil && r.whole.Raw == nil {
		if err := r.reopen(ctx); err != nil || r.cs == nil && r.whole.Raw == nil {
			return nil, err
		}
	}
	if r.whole.Raw != nil {
		return r.takeWhole()
	}
	cursor := r.cursor
	events, err := r.read(ctx)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err() // the stream is being closed
	case err != nil:
		return nil, r.interrupted(ctx, err)
	}
	r.outage.over()
	r.unknownSince = time.Time{}
	if len(events) == 0 {
		r.idle()
		if r.cs != nil && r.cursor == cursor { // the first batch of another cursor proves nothing
			r.quiet, _ = resumetoken.New(r.cs.ResumeToken())
		}
		return nil, nil
	}
	if !r.copying {
		r.warnOfRenames(events)
	}
	return events, r.advance(ctx, events)
}

// read waits for the server's next batch and takes it whole. The events share
// the memory of the server's reply, which the driver allocates for each reply
// and doesn't reuse.
func (r *reader) read(ctx context.Context) ([]rigatoni.Event, error) {
	some, err := r.next(ctx)
	if err == nil && !some && r.fresh && r.alive() {
		// The first call only looked at the aggregate's own batch.
		some, err = r.next(ctx)
	}
	r.fresh = false
	if err != nil {
		return nil, err
	}
	if id := r.cs.ID(); id != r.cursor { // the driver has opened another, or the server closed it
		if err := r.verify(ctx); err != nil {
			return nil, err
		}
		if id != 0 && r.cursor != 0 {
			r.outage.resumed()
		}
		r.cursor = id
	}
	if !some {
		return nil, nil
	}
	events := make([]rigatoni.Event, 1, 1+r.cs.RemainingBatchLength())
	events[0].Raw = r.cs.Current
	for r.cs.RemainingBatchLength() > 0 && r.cs.TryNext(ctx) {
		events = append(events, rigatoni.Event{Raw: r.cs.Current})
	}
	return events, nil
}

// next is the driver's TryNext, which gets no longer than a reply can take. The time
// also ends the driver's own attempts to resume the stream, which are made within the
// same call: reopening has its own limits.
func (r *reader) next(ctx context.Context) (bool, error) {
	patience := doubled(r.src.limits.margin, r.stalls)
	within, cancel := limited(ctx, r.src.opts.MaxAwait+patience)
	defer cancel()
	began := time.Now()
	some := r.cs.TryNext(r.call.with(within))
	took := time.Since(began)
	if some || r.cs.Err() == nil {
		if r.stalls > 0 && !r.fresh && took < r.src.opts.MaxAwait+r.src.limits.margin/2 {
			r.stalls--
		}
		return some, nil
	}
	err := r.cs.Err()
	if ctx.Err() == nil && isLate(within) {
		r.stalls = min(r.stalls+1, maxDoublings)
		r.orphan = r.cursor
		r.outage.began(began)
		return false, &lateError{took: took, address: r.call.server(), err: err}
	}
	if took > r.src.opts.MaxAwait+time.Second {
		r.outage.began(began) // the driver has tried to resume meanwhile
	}
	return false, err
}

// A lateError says that a reply didn't come in time. It is temporary, whatever err is:
// the driver's error about what was cancelled, which may say why no server answers.
type lateError struct {
	took    time.Duration
	address string // "" if it is unknown
	err     error
}

func (e *lateError) Unwrap() error { return e.err }

func (e *lateError) Error() string {
	if a, _ := absenceOf(e.err); a.failed {
		return a.cause
	}
	return fmt.Sprintf("no reply within %v; the connection is given up", e.took.Round(10*time.Millisecond))
}

func (r *reader) alive() bool { return r.cs.Err() == nil && r.cs.ID() != 0 }

// advance moves the position to after events. It looks at the last one only.
func (r *reader) advance(ctx context.Context, events []rigatoni.Event) error {
	pos, err := rigatoni.PositionAfter(events[len(events)-1])
	if err != nil {
		return err
	}
	r.moveTo(pos)
	if r.careful > 0 {
		r.careful = max(0, r.careful-len(events))
		if r.careful == 0 {
			r.cs.SetBatchSize(int32(r.src.opts.BatchSize))
		}
	}
	if r.cs.ID() == 0 {
		// The server closed it, after an invalidate event; there may be more
		// after that.
		r.drop(ctx)
	}
	return nil
}

// idle moves the position to where the server has looked without finding events,
// or notes that the server has closed the cursor.
func (r *reader) idle() {
	if r.careful > 0 {
		r.careful = 0 // the event that could not be read is gone
		r.cs.SetBatchSize(int32(r.src.opts.BatchSize))
	}
	if r.cs.ID() == 0 {
		r.outage.begin(errCursorClosed)
		r.drop(context.Background())
		return
	}
	if pos, later := after(r.at, r.cs.ResumeToken()); later {
		r.moveTo(pos)
		return
	}
	r.alarm()
}

// after is the position of a token that came with an empty batch, if it is later
// than the old one. The token is a copy: the driver's bytes are part of a reply.
func after(old rigatoni.Position, raw []byte) (rigatoni.Position, bool) {
	token, err := resumetoken.New(raw)
	if err != nil || token == old.Token {
		return old, false
	}
	// Also where a resumed stream gives the high-water mark of its token's time,
	// which is before the events of that time.
	if order, ok := resumetoken.Compare(token, old.Token); ok && order <= 0 {
		return old, false
	}
	pos := rigatoni.Position{Token: token, ClusterTime: old.ClusterTime}
	if d, err := token.Decode(); err == nil {
		pos.ClusterTime, pos.StartAfter = d.ClusterTime, d.FromInvalidate
	}
	return pos, true
}

func (r *reader) moveTo(pos rigatoni.Position) {
	if r.alarmed {
		r.log.Info("change stream advances again", "stalled_seconds", seconds(time.Since(r.movedAt)))
	}
	r.at, r.movedAt, r.alarmed, r.over = pos, time.Now(), false, false
}

// stallAfter is how long a stream may stand still while the server replies. A
// replica set writes a no-op into its oplog every ten seconds, so that the
// position of a healthy stream moves even if nothing else happens.
var stallAfter = 2 * time.Minute

func (r *reader) alarm() {
	if still := time.Since(r.movedAt); still > stallAfter && !r.alarmed {
		r.alarmed = true
		r.log.Warn("change stream is stalled: the server replies with neither events nor a later resume token",
			"stalled_seconds", seconds(still), "cluster_time", fmt.Sprintf("%d.%d", r.at.ClusterTime.T, r.at.ClusterTime.I))
	}
}

// drop closes the cursor; the next step opens another.
func (r *reader) drop(ctx context.Context) {
	if r.cs == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTime)
	defer cancel()
	_ = r.cs.Close(ctx) // usually it is gone already; the server frees it by itself
	r.cs, r.cursor = nil, 0
}

// bury frees a cursor whose connection was given up.
func (r *reader) bury(ctx context.Context) {
	if r.orphan == 0 {
		return
	}
	ctx, cancel := limited(ctx, dropTime)
	defer cancel()
	_ = r.fingerprint.scope.kill(ctx, r.src.client, r.orphan) // the server frees it by itself
	r.orphan = 0
}

// close frees the cursor at the end.
func (r *reader) close(ctx context.Context, interrupted bool) error {
	if r.cs == nil {
		return nil
	}
	cs, cursor := r.cs, r.cursor
	r.cs, r.cursor = nil, 0
	err := cs.Close(ctx)
	if interrupted && cursor != 0 {
		err = r.fingerprint.scope.kill(ctx, r.src.client, cursor)
	}
	return err
}

// dropTime is how long freeing a cursor may take that is no longer used.
const dropTime = time.Second
