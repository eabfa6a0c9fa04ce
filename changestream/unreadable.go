package changestream

import (
	"context"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/quote"
)

// carefully handles an error about an event, with which the good events before it
// were lost: they are read again one by one, until the next one is the bad one. An
// aggregate may have failed on the event of the position itself, which is stepped over.
// An event that is too large is read in parts.
func (r *reader) carefully(ctx context.Context, err error, from origin) error {
	switch {
	case from == atAggregate && !r.over && r.canStepOver(ctx):
		r.over = true
	case r.careful == 0:
		r.careful = r.src.opts.BatchSize
	case code(err) == codeObjectTooLarge && !r.src.noSplit.Load():
		return r.inParts(ctx, err)
	default:
		return r.unreadable(ctx, err)
	}
	return nil
}

// canStepOver reports whether the position is that of an event which has images, or on
// which stages can fail. What comes at the time of an invalidate event, and before it,
// would end the stream again. The tokens of a stream that is opened at a time have to be
// of the format of the position's, or they don't sort as their events do.
func (r *reader) canStepOver(ctx context.Context) bool {
	d, err := r.at.Token.Decode()
	if err != nil || d.HighWaterMark || d.FromInvalidate || r.at.StartAfter {
		return false
	}
	within, cancel := limited(ctx, r.src.limits.margin)
	defer cancel()
	o := options.ChangeStream().SetBatchSize(0).SetStartAtOperationTime(&d.ClusterTime)
	cs, err := r.fingerprint.scope.watch(within, r.src.client, o, nil)
	if err != nil {
		return false
	}
	begin, err := decodeToken(cs.ResumeToken())
	_ = cs.Close(within) // the server frees it by itself
	return err == nil && begin.Format == d.Format
}

// unreadable is the error that says which event can't be read, and why. It is the
// next one.
func (r *reader) unreadable(ctx context.Context, err error) error {
	if failsOnEvent(err) && !isUnreadable(code(err)) {
		return r.pipelineFailed(err)
	}
	why := "is larger than the 16 MB that the server can send; it may fit without FullDocument and FullDocumentBeforeChange, or if Options.Pipeline removes large fields; a server of version 6.0.9, 7.0 or later would send it in parts"
	switch code(err) {
	case codeFieldTooBig:
		why = "has a field that is larger than the 16 MB that the server can send, also in parts; it may fit if Options.Pipeline removes the field"
	case codeNoMatchingDocument:
		why = "has no pre- or post-image, though one is required; images are stored only from when changeStreamPreAndPostImages is enabled for a collection, and not for ever: \"whenAvailable\" does without"
	}
	ev, name := r.nextEvent(ctx)
	e := &streamError{
		text:   fmt.Sprintf("%s: %s %s (%s)", r.fingerprint.scope, name, why, codeOf(err)),
		causes: []error{ErrUnreadable, err},
	}
	if ev.Raw == nil {
		return e
	}
	return &rigatoni.UnreadableError{Event: ev, Err: e}
}

func isUnreadable(code int32) bool {
	return code == codeObjectTooLarge || code == codeFieldTooBig || code == codeNoMatchingDocument
}

// skip moves the position to after an event that could not be read.
func (r *reader) skip(ctx context.Context, ev rigatoni.Event) error {
	pos, err := rigatoni.PositionAfter(ev)
	if err != nil {
		return err
	}
	r.drop(ctx)
	r.moveTo(pos)
	return nil
}

// pipelineFailed is the error for an event that an expression of the user's
// pipeline fails on. Which event it is can't be asked: those that the pipeline
// filters out before it may be many.
func (r *reader) pipelineFailed(err error) error {
	reason := messageOf(err)
	_, reason, _ = strings.Cut(reason, " :: caused by :: ")
	for _, quote := range []string{" '", ` "`} { // values of the document
		if before, _, ok := strings.Cut(reason, quote); ok {
			reason = before + " … (" + codeOf(err) + ")"
		}
	}
	return &streamError{
		text: fmt.Sprintf("%s: Options.Pipeline fails on an event after %s (cluster time %d.%d): %s; mend the expression, which must work for every event that reaches it, or give it a default ($ifNull, $convert with onError)",
			r.fingerprint.scope, clock(r.at.ClusterTime), r.at.ClusterTime.T, r.at.ClusterTime.I, reason),
		causes: []error{ErrUnreadable, err},
	}
}

// nextEvent is the event after the position, as far as it can be read without what
// makes it unreadable, and its name; without an event where that can't be read.
func (r *reader) nextEvent(ctx context.Context) (ev rigatoni.Event, name string) {
	kept := bson.D{}
	for _, field := range keptFields {
		kept = append(kept, bson.E{Key: field, Value: 1})
	}
	raw, err := r.peek(ctx, options.ChangeStream(), bson.D{{Key: "$project", Value: kept}})
	if err != nil {
		return ev, "the event after " + clock(r.at.ClusterTime)
	}
	ev = rigatoni.Event{Raw: raw}
	t := ev.ClusterTime()
	ns := quote.Name(ev.Namespace().String())
	return ev, fmt.Sprintf("the %s in %s at %s (cluster time %d.%d)", quote.Name(ev.OperationType()), ns, clock(t), t.T, t.I)
}
