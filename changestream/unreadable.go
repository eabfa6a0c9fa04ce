package changestream

import (
	"context"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
)

// carefully handles an error about an event, with which the good events before it
// were lost: they are read again one by one, until the next one is the bad one. An
// aggregate may have failed on the event of the position itself, which is stepped over.
func (r *reader) carefully(ctx context.Context, err error, from origin) error {
	switch {
	case from == atAggregate && !r.over && canBeSteppedOver(r.at):
		r.over = true
	case r.careful == 0:
		r.careful = r.src.opts.BatchSize
	default:
		return r.unreadable(ctx, err)
	}
	return nil
}

// canBeSteppedOver reports whether a position is that of an event which has images,
// or on which stages can fail. What comes at the time of an invalidate event, and
// before it, would end the stream again.
func canBeSteppedOver(pos rigatoni.Position) bool {
	d, err := pos.Token.Decode()
	return err == nil && !d.HighWaterMark && !d.FromInvalidate && !pos.StartAfter
}

// unreadable is the error that says which event can't be read, and why. It is the
// next one.
func (r *reader) unreadable(ctx context.Context, err error) error {
	if failsOnEvent(err) && code(err) != codeObjectTooLarge && code(err) != codeNoMatchingDocument {
		return r.pipelineFailed(err)
	}
	why := "is larger than the 16 MB that the server can send; it may fit without FullDocument and FullDocumentBeforeChange, or if Options.Pipeline removes large fields"
	if code(err) == codeNoMatchingDocument {
		why = "has no pre- or post-image, though one is required; images are stored only from when changeStreamPreAndPostImages is enabled for a collection, and not for ever: \"whenAvailable\" does without"
	}
	return &streamError{
		text:   fmt.Sprintf("%s: %s %s (%s)", r.fingerprint.scope, r.nextEvent(ctx), why, codeOf(err)),
		causes: []error{ErrUnreadable, err},
	}
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

// nextEvent describes the event after the position, as far as it can be read
// without what makes it unreadable.
func (r *reader) nextEvent(ctx context.Context) string {
	o := options.ChangeStream().SetBatchSize(1).SetStartAfter(r.at.Token.Raw())
	project := bson.D{{Key: "$project", Value: bson.D{{Key: "operationType", Value: 1}, {Key: "ns", Value: 1}, {Key: "clusterTime", Value: 1}}}}
	cs, err := r.fingerprint.scope.watch(ctx, r.src.client, o, resumePointOf(r.at), project)
	if err != nil {
		return "the event after " + clock(r.at.ClusterTime)
	}
	defer cs.Close(context.WithoutCancel(ctx))
	if !cs.TryNext(ctx) {
		return "the event after " + clock(r.at.ClusterTime)
	}
	ev := rigatoni.Event{Raw: cs.Current}
	t := ev.ClusterTime()
	return fmt.Sprintf("the %s in %s at %s (cluster time %d.%d)", ev.OperationType(), ev.Namespace(), clock(t), t.T, t.I)
}
