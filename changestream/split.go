package changestream

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// An event over 16 MB is read in parts, which the server makes by its fields, and put
// together again: it is then the event that the server would have sent, could it.
//
// The stage that splits is used for that one event, by a cursor of its own that is
// opened at the event's time. With it all tokens are of another format, which a stream
// that is resumed from a token of the usual one can't have (7182504), and those of
// parts can't be resumed from without it. The event gets the usual token, so nothing of
// this shows in a checkpoint, and none is possible between the parts.

var splitStage = "$changeStreamSplitLargeEvent" // a variable for tests

// Codes of servers that can't split: one that doesn't know the stage (before 6.0.9),
// and one that finds a field which doesn't fit alone.
const (
	codeUnknownStage = 40324
	codeFieldTooBig  = 7182500
)

// cantSplit are the codes of servers that know the stage, or an expression that is
// needed beside it, not at all.
var cantSplit = []int32{codeUnknownStage, 168, 238}

var errChangedMeanwhile = errors.New("the event that is read in parts is no longer as it was a moment ago")

// inParts reads the next event, for which err said that it is too large, in parts. It
// returns an error if that is not possible. Where it failed only this time, the stream
// is reopened and comes to the event again.
func (r *reader) inParts(ctx context.Context, err error) error {
	ev, partial := r.readWhole(ctx)
	switch v := r.judge(partial, atAggregate); {
	case partial == nil:
		r.whole = ev
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case slices.Contains(cantSplit, code(partial)):
		r.src.noSplit.Store(true)
		return r.unreadable(ctx, err)
	case v == badEvent:
		return r.unreadable(ctx, partial)
	case v == lost:
		return r.lost(partial)
	case v == refused || r.hopeless(v):
		return r.fingerprint.scope.refused("read a large event in parts", partial)
	}
	r.outage.begin(partial)
	return nil
}

// takeWhole returns the event that was read in parts.
func (r *reader) takeWhole() ([]rigatoni.Event, error) {
	ev := r.whole
	r.whole = rigatoni.Event{}
	pos, err := rigatoni.PositionAfter(ev)
	if err != nil {
		return nil, err
	}
	r.outage.over()
	r.moveTo(pos)
	r.careful = 0
	return []rigatoni.Event{ev}, nil
}

// A shape is what the parts of an event don't tell, its token and the order of its
// fields, and what it is found by.
type shape struct {
	Token       bson.Raw       `bson:"_id"`
	ClusterTime bson.Timestamp `bson:"clusterTime"`
	Operation   string         `bson:"operationType"`
	Namespace   bson.Raw       `bson:"ns"`
	DocumentKey bson.Raw       `bson:"documentKey"`
	Fields      []string       `bson:"fields"`

	decoded resumetoken.Decoded
}

// shapeStage makes a shape of an event.
var shapeStage = bson.D{{Key: "$project", Value: bson.D{
	{Key: "_id", Value: 1}, {Key: "clusterTime", Value: 1}, {Key: "operationType", Value: 1}, {Key: "ns", Value: 1}, {Key: "documentKey", Value: 1},
	{Key: "fields", Value: bson.D{{Key: "$map", Value: bson.D{
		{Key: "input", Value: bson.D{{Key: "$objectToArray", Value: "$$ROOT"}}}, {Key: "in", Value: "$$this.k"},
	}}}},
}}}

// shape asks for the event after the position without its values.
func (r *reader) shape(ctx context.Context) (s shape, err error) {
	raw, err := r.peek(ctx, r.watchOptions(), shapeStage)
	if err == nil {
		err = bson.Unmarshal(raw, &s)
	}
	if err == nil {
		s.decoded, err = decodeToken(s.Token)
	}
	return s, err
}

// peek returns the next event as a cursor of its own has it, with stages after the
// scope's.
func (r *reader) peek(ctx context.Context, o *options.ChangeStreamOptionsBuilder, stages ...bson.D) (bson.Raw, error) {
	ctx, cancel := limited(ctx, r.src.limits.opening)
	defer cancel()
	cs, err := r.watchWith(ctx, o.SetBatchSize(1), r.at.StartAfter || !r.src.noStartAfter.Load(), stages...)
	if err != nil {
		return nil, err
	}
	defer closeSoon(ctx, cs)
	for range 2 { // the aggregate's own batch, and one more
		if cs.TryNext(ctx) {
			return slices.Clone(cs.Current), nil
		}
		if err := cs.Err(); err != nil {
			return nil, err
		}
	}
	return nil, errChangedMeanwhile
}

// closeSoon frees a cursor; the server would do so by itself.
func closeSoon(ctx context.Context, cs *mongo.ChangeStream) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTime)
	defer cancel()
	_ = cs.Close(ctx)
}

// readWhole reads the next event in parts.
func (r *reader) readWhole(ctx context.Context) (rigatoni.Event, error) {
	s, err := r.shape(ctx)
	if err != nil {
		return rigatoni.Event{}, err
	}
	ctx, cancel := limited(ctx, r.src.limits.opening)
	defer cancel()
	only := bson.D{{Key: "$match", Value: bson.D{{Key: "operationType", Value: s.Operation}, {Key: "ns", Value: s.Namespace}, {Key: "documentKey", Value: s.DocumentKey}}}}
	o := r.watchOptions().SetBatchSize(1).SetStartAtOperationTime(&s.ClusterTime)
	cs, err := r.fingerprint.scope.watch(ctx, r.src.client, o, nil, only, bson.D{{Key: splitStage, Value: bson.D{}}})
	if err != nil {
		return rigatoni.Event{}, err
	}
	defer closeSoon(ctx, cs)
	parts, err := readParts(ctx, cs, s)
	if err != nil {
		return rigatoni.Event{}, err
	}
	raw, err := join(parts, s)
	return rigatoni.Event{Raw: raw}, err
}

// readParts reads the parts of the event. Others of the same document may come before
// it, in the same transaction.
func readParts(ctx context.Context, cs *mongo.ChangeStream, s shape) (parts []bson.Raw, err error) {
	for quiet := 0; quiet < 3; {
		if !cs.TryNext(ctx) {
			if cs.Err() != nil || cs.ID() == 0 {
				return nil, errors.Join(cs.Err(), errChangedMeanwhile)
			}
			quiet++
			continue
		}
		ours, err := s.isOf(cs.Current)
		if err != nil {
			return nil, err
		}
		if !ours {
			continue
		}
		parts = append(parts, cs.Current)
		of, isPart := cs.Current.Lookup("splitEvent", "of").AsInt64OK()
		switch n, _ := cs.Current.Lookup("splitEvent", "fragment").AsInt64OK(); {
		case !isPart, n != int64(len(parts)):
			return nil, errChangedMeanwhile
		case n == of:
			return parts, nil
		}
	}
	return nil, errChangedMeanwhile
}

// isOf reports whether a part is of the event.
func (s shape) isOf(part bson.Raw) (bool, error) {
	d, err := decodeToken(part.Lookup("_id").Document())
	return d.ClusterTime == s.decoded.ClusterTime && d.TxnOpIndex == s.decoded.TxnOpIndex && d.UUID == s.decoded.UUID, err
}

// join puts the parts of an event together, in the order of its fields.
func join(parts []bson.Raw, s shape) (bson.Raw, error) {
	fields := map[string]bson.RawElement{}
	size := 0
	for _, p := range parts {
		elements, err := p.Elements()
		if err != nil {
			return nil, fmt.Errorf("a part of an event that was split: %w", err)
		}
		for _, e := range elements {
			if key := e.Key(); key != "_id" && key != "splitEvent" {
				fields[key] = e
				size += len(e)
			}
		}
	}
	out := make([]byte, 4, size+len(s.Token)+16)
	for _, name := range s.Fields {
		e, ok := fields[name]
		switch {
		case name == "_id":
			out = append(append(append(append(out, byte(bson.TypeEmbeddedDocument)), name...), 0), s.Token...)
			continue
		case !ok:
			return nil, errChangedMeanwhile
		}
		out = append(out, e...)
		delete(fields, name)
	}
	if len(fields) > 0 {
		return nil, errChangedMeanwhile
	}
	out = append(out, 0)
	for i := range 4 {
		out[i] = byte(len(out) >> (8 * i))
	}
	return out, nil
}

func decodeToken(raw bson.Raw) (resumetoken.Decoded, error) {
	t, err := resumetoken.New(raw)
	if err != nil {
		return resumetoken.Decoded{}, err
	}
	return t.Decode()
}
