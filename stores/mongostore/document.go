package mongostore

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/state/record"
)

// version is that of the documents.
const version = 1

// A document is what a key has in the collection.
type document struct {
	Key     string `bson:"_id"`
	Version int64  `bson:"version"`
	// Rev is another one with each write. A counter could come to the same number in two
	// ways: on a primary that is deposed, and on the next one.
	Rev          bson.ObjectID `bson:"rev"`
	LastSequence int64         `bson:"lastSequence,omitempty"`
	Checkpoint   *checkpoint   `bson:"checkpoint,omitempty"` // nil: none
	Cleared      bool          `bson:"cleared,omitempty"`
	Epoch        int64         `bson:"epoch,omitempty"`
	Nonce        string        `bson:"nonce,omitempty"`
	Owner        string        `bson:"owner,omitempty"`
	LeaseUntil   time.Time     `bson:"leaseUntil,omitempty"`
	// Session is that of the owner's transactions (see [Transactions]).
	Session bson.Raw `bson:"session,omitempty"`
}

type checkpoint struct {
	Token       bson.Raw       `bson:"token"`
	StartAfter  bool           `bson:"startAfter,omitempty"`
	ClusterTime bson.Timestamp `bson:"clusterTime,omitempty"`
	Sequence    int64          `bson:"sequence,omitempty"`
	Fingerprint string         `bson:"fingerprint,omitempty"`
	Epoch       int64          `bson:"epoch,omitempty"`
	SavedAt     time.Time      `bson:"savedAt,omitempty"`
	Extra       []extra        `bson:"extra,omitempty"`
}

// An extra is an entry of Checkpoint.Extra. As text it keeps its numbers, and its name
// may be any.
type extra struct {
	Name string `bson:"name"`
	JSON string `bson:"json"`
}

// encode returns the document of a record, as a new revision.
func encode(key string, rec *record.Record) document {
	d := document{
		Key: key, Version: version, Rev: bson.NewObjectID(),
		LastSequence: int64(rec.LastSequence), Cleared: rec.Status == record.Cleared,
		Epoch: int64(rec.Epoch), Nonce: rec.Nonce, Owner: rec.Owner, LeaseUntil: rec.LeaseUntil,
	}
	if rec.Status == record.Saved {
		d.Checkpoint = encodeCheckpoint(&rec.Checkpoint)
	}
	return d
}

func encodeCheckpoint(cp *state.Checkpoint) *checkpoint {
	c := &checkpoint{
		Token: cp.Token.Raw(), StartAfter: cp.StartAfter, ClusterTime: cp.ClusterTime, Sequence: int64(cp.Sequence),
		Fingerprint: cp.Fingerprint, Epoch: int64(cp.Epoch), SavedAt: cp.SavedAt,
	}
	for _, name := range slices.Sorted(maps.Keys(cp.Extra)) {
		c.Extra = append(c.Extra, extra{name, string(cp.Extra[name])})
	}
	return c
}

// decode returns the record of a document, and its revision.
func decode(raw bson.Raw) (record.Record, bson.ObjectID, error) {
	v, ok := raw.Lookup("version").AsInt64OK()
	switch {
	case !ok || v < 1:
		return record.Record{}, bson.ObjectID{}, damaged("it has no version")
	case v > version:
		return record.Record{}, bson.ObjectID{}, fmt.Errorf("%w: version %d; this program reads up to %d", state.ErrNewer, v, version)
	}
	var d document
	if err := bson.Unmarshal(raw, &d); err != nil {
		return record.Record{}, bson.ObjectID{}, damaged("a field has the wrong type")
	}
	if d.Rev.IsZero() || d.LastSequence < 0 || d.Epoch < 0 {
		return record.Record{}, bson.ObjectID{}, damaged("rev, lastSequence or epoch is missing or negative")
	}
	rec := record.Record{
		LastSequence: uint64(d.LastSequence), Epoch: uint64(d.Epoch), Nonce: d.Nonce, Owner: d.Owner, LeaseUntil: d.LeaseUntil,
	}
	switch {
	case d.Checkpoint == nil && d.Cleared:
		rec.Status = record.Cleared
	case d.Checkpoint == nil && d.LastSequence > 0:
		return record.Record{}, bson.ObjectID{}, damaged("the checkpoint is missing")
	case d.Checkpoint != nil:
		rec.Status = record.Saved
		if err := d.Checkpoint.decode(&rec.Checkpoint); err != nil {
			return record.Record{}, bson.ObjectID{}, err
		}
	}
	return rec, d.Rev, nil
}

func (c *checkpoint) decode(cp *state.Checkpoint) (err error) {
	if cp.Token, err = resumetoken.New(c.Token); err != nil {
		return damaged("the token is not a resume token")
	}
	if c.Sequence < 0 || c.Epoch < 0 {
		return damaged("the checkpoint's sequence or epoch is negative")
	}
	cp.StartAfter, cp.ClusterTime, cp.Sequence = c.StartAfter, c.ClusterTime, uint64(c.Sequence)
	cp.Fingerprint, cp.Epoch, cp.SavedAt = c.Fingerprint, uint64(c.Epoch), c.SavedAt.UTC()
	for _, e := range c.Extra {
		if !json.Valid([]byte(e.JSON)) {
			return damaged("an entry of extra is not JSON")
		}
		if cp.Extra == nil {
			cp.Extra = make(map[string]json.RawMessage)
		}
		cp.Extra[e.Name] = json.RawMessage(e.JSON)
	}
	return nil
}

func damaged(what string) error { return fmt.Errorf("%w: %s", state.ErrCorrupt, what) }
