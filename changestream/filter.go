package changestream

import (
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
)

// A filter is the user's pipeline.
type filter struct {
	id     string // "" if there is none
	text   string // abbreviated, for messages
	stages []stage
}

func newFilter(p Pipeline) (filter, error) {
	if len(p) == 0 {
		return filter{}, nil
	}
	stages, err := p.compile()
	if err != nil {
		return filter{}, err
	}
	if p, err = p.normalized(); err != nil {
		return filter{}, err
	}
	id, err := p.id()
	return filter{id: id, text: p.abbreviated(), stages: stages}, err
}

// A resumePoint is the event that a stream is opened after, nil if it is opened
// at a time.
//
// A server runs the stages before it looks for this event, and fails with error
// 280 if they hide it. They may: a filter can depend on the document as it is
// now (with updateLookup), on the time or on $rand. So each filter lets this one
// event pass; the server doesn't return it.
//
// Over it, a stream is opened at the event's time, without its token, and a filter
// lets pass only what is later than the event. The server applies that before it looks
// up images and before it evaluates other stages, either of which may fail for the
// event: an image expires, and "required" can be configured after an event.
type resumePoint struct {
	token bson.Raw
	time  bson.Timestamp
	over  bool
	ddl   bool // it is of no single document, such as a drop that a snapshot had to see
}

// later is the filter for what is later than the event. Tokens sort as their events
// do, also those of one transaction, which have one time.
func (p *resumePoint) later() bson.D {
	return bson.D{{Key: "$match", Value: bson.D{{Key: "_id", Value: bson.D{{Key: "$gt", Value: p.token}}}}}}
}

func resumePointOf(pos rigatoni.Position) *resumePoint {
	if pos.Token.IsZero() {
		return nil
	}
	p := &resumePoint{token: pos.Token.Raw()}
	if d, err := pos.Token.Decode(); err == nil {
		if d.HighWaterMark {
			return nil
		}
		p.time, p.ddl = d.ClusterTime, d.DocumentKey == nil
	}
	return p
}

// query matches the event. The server can apply the time to its oplog, and with
// it the whole filter that this is one alternative of.
func (p *resumePoint) query() bson.D {
	q := bson.D{{Key: "_id", Value: p.token}}
	if !p.time.IsZero() {
		q = append(q, bson.E{Key: "clusterTime", Value: p.time})
	}
	return q
}

func compileMatch(name string, spec any) (stage, error) {
	if _, ok := spec.(bson.D); !ok {
		return nil, fmt.Errorf("%s takes a document", name)
	}
	return func(p passing) bson.D {
		or := bson.A{bson.D{{Key: "operationType", Value: bson.D{{Key: "$in", Value: p.types()}}}}}
		if p.at != nil {
			or = append(or, p.at.query())
		}
		return bson.D{{Key: name, Value: bson.D{{Key: "$or", Value: append(or, spec)}}}}
	}, nil
}

// compileRedact wraps the expression, which the server evaluates for the event
// and for each document in it.
func compileRedact(name string, spec any) (stage, error) {
	return func(p passing) bson.D {
		// $$ROOT, because in a document of the event $operationType is a field of
		// that document.
		or := bson.A{
			bson.D{{Key: "$in", Value: bson.A{"$$ROOT.operationType", p.types()}}},
			bson.D{{Key: "$in", Value: bson.A{"$$CURRENT", bson.A{"$$ROOT._id", "$$ROOT.ns", "$$ROOT.documentKey"}}}},
		}
		if p.at != nil {
			or = append(or, bson.D{{Key: "$eq", Value: bson.A{"$$ROOT._id", bson.D{{Key: "$literal", Value: p.at.token}}}}})
		}
		return bson.D{{Key: name, Value: bson.D{{Key: "$cond", Value: bson.A{bson.D{{Key: "$or", Value: or}}, "$$KEEP", spec}}}}}
	}, nil
}
