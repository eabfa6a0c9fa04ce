package changestream

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
)

// carefully answers an error about an event, which has taken the good events
// before it along: reads them one by one, until the next one is the bad one.
func (r *reader) carefully(ctx context.Context, err error) error {
	if r.careful > 0 {
		return r.unreadable(ctx, err)
	}
	r.careful = r.src.opts.BatchSize
	return nil
}

// unreadable says which event can't be read, and why. It is the next one.
func (r *reader) unreadable(ctx context.Context, err error) error {
	why := "is larger than the 16 MB that the server can send; without FullDocument and FullDocumentBeforeChange it may fit"
	if code(err) == codeNoMatchingDocument {
		why = "has no pre- or post-image, though one is required; images are stored only from when changeStreamPreAndPostImages is enabled for a collection, and not for ever: \"whenAvailable\" does without"
	}
	return &streamError{
		text:   fmt.Sprintf("%s: %s %s (%s)", r.scope, r.nextEvent(ctx), why, nameOf(err)),
		causes: []error{err},
	}
}

// nextEvent describes the event behind the position, as far as it can be read
// without what makes it unreadable.
func (r *reader) nextEvent(ctx context.Context) string {
	o := options.ChangeStream().SetBatchSize(1).SetStartAfter(r.at.Token.Raw())
	project := bson.D{{Key: "$project", Value: bson.D{{Key: "operationType", Value: 1}, {Key: "ns", Value: 1}, {Key: "clusterTime", Value: 1}}}}
	cs, err := r.scope.watch(ctx, r.src.client, o, project)
	if err != nil {
		return "the event behind " + clock(r.at.ClusterTime)
	}
	defer cs.Close(context.WithoutCancel(ctx))
	if !cs.TryNext(ctx) {
		return "the event behind " + clock(r.at.ClusterTime)
	}
	ev := rigatoni.Event{Raw: cs.Current}
	t := ev.ClusterTime()
	return fmt.Sprintf("the %s in %s at %s (cluster time %d.%d)", ev.OperationType(), ev.Namespace(), clock(t), t.T, t.I)
}
