package checkpoints

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/snapshotview"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
	"github.com/rigatoni-etl/rigatoni/state"
)

// The states of a key.
const (
	stateSaved   = "saved"
	stateNone    = "none" // leased, and nothing saved
	stateLost    = "lost" // there was a checkpoint, and it disappeared under a running pipeline
	stateExpired = "expired"
	stateDamaged = "damaged"
	stateNewer   = "newer" // of a newer version of the store
	stateUnread  = "unreadable"
)

// A View is what is known of one checkpoint. Its JSON is documented in
// docs/checkpoint.md: names are never changed, and unknown values are left out.
type View struct {
	Key   string `json:"key"`
	State string `json:"state"`
	Error string `json:"error,omitempty"` // why it can't be read

	Position    *time.Time `json:"position,omitempty"` // to the second, by the cluster's clock
	ClusterTime string     `json:"cluster_time,omitempty"`
	SavedAt     *time.Time `json:"saved_at,omitempty"`
	Age         *float64   `json:"age_seconds,omitempty"`    // since it was saved
	Lag         *float64   `json:"lag_seconds,omitempty"`    // of the position behind the cluster
	Runway      *float64   `json:"runway_seconds,omitempty"` // until the server discards the events after it
	Oldest      *time.Time `json:"oldest,omitempty"`         // the server's oldest event
	Unknown     string     `json:"runway_unknown,omitempty"` // why

	Owner      string         `json:"owner,omitempty"`
	OwnerUntil *time.Time     `json:"owner_until,omitempty"` // left out where the lease ends with its process
	Gaps       []rigatoni.Gap `json:"gaps"`
	GapsError  string         `json:"gaps_error,omitempty"` // why they can't be read

	// Snapshot is the copy that is under way, with its pace since it began.
	Snapshot      *snapshotview.View `json:"snapshot,omitempty"`
	SnapshotError string             `json:"snapshot_error,omitempty"` // why it can't be read

	Epoch       uint64                     `json:"epoch,omitempty"`
	Sequence    uint64                     `json:"sequence,omitempty"`
	Fingerprint string                     `json:"fingerprint,omitempty"`
	Token       *TokenView                 `json:"token,omitempty"` // show only
	Extra       map[string]json.RawMessage `json:"extra,omitempty"` // show only, without the gaps and the snapshot
	Verdict     *Verdict                   `json:"verdict,omitempty"`

	checkpoint state.Checkpoint
	copy       *rigatoni.SnapshotStatus
	loadErr    error
}

// A TokenView is a resume token, decoded.
type TokenView struct {
	Format        string          `json:"format"` // 3.6, v0, v1, v2, or opaque
	Error         string          `json:"error,omitempty"`
	HighWaterMark bool            `json:"high_water_mark"` // between events, of none
	Operation     string          `json:"operation,omitempty"`
	CollectionID  string          `json:"collection_id,omitempty"`
	DocumentKey   json.RawMessage `json:"document_key,omitempty"`
	Transaction   int             `json:"transaction_index,omitempty"`
	Invalidate    bool            `json:"invalidate,omitempty"`
	Bytes         int             `json:"bytes"`
}

// view is what the store says of a key.
func view(e state.Entry, lost *state.Checkpoint, now time.Time) View {
	v := View{Key: e.Key, State: stateOf(e.LoadErr), Owner: e.Owner, Gaps: []rigatoni.Gap{}, checkpoint: e.Checkpoint, loadErr: e.LoadErr}
	if !e.Until.IsZero() {
		until := e.Until.UTC()
		v.OwnerUntil = &until
	}
	if e.LoadErr != nil {
		v.Error = e.LoadErr.Error()
	}
	if v.State == stateNone && lost != nil {
		v.State, v.checkpoint = stateLost, *lost
		v.Error = "it was there while a pipeline ran, and disappeared from the store; this is what the pipeline knew"
	}
	if v.checkpoint.Token.IsZero() {
		return v
	}
	cp := v.checkpoint
	at := PositionOf(cp).ClusterTime
	v.Position, v.ClusterTime = wall(at), text(at)
	if !cp.SavedAt.IsZero() {
		saved := cp.SavedAt.UTC()
		v.SavedAt, v.Age = &saved, seconds(max(0, now.Sub(saved)))
	}
	v.Epoch, v.Sequence, v.Fingerprint = cp.Epoch, cp.Sequence, cp.Fingerprint
	gaps, err := rigatoni.Gaps(cp)
	if err != nil {
		v.GapsError = err.Error()
	}
	v.Gaps = append(v.Gaps, gaps...)
	v.snapshot()
	return v
}

func stateOf(err error) string {
	for target, s := range map[error]string{
		state.ErrNotFound: stateNone, state.ErrExpired: stateExpired, state.ErrCorrupt: stateDamaged, state.ErrNewer: stateNewer,
	} {
		if errors.Is(err, target) {
			return s
		}
	}
	if err != nil {
		return stateUnread
	}
	return stateSaved
}

// detail adds what only show prints.
func (v *View) detail() {
	cp := v.checkpoint
	if cp.Token.IsZero() {
		return
	}
	v.Token = viewToken(cp.Token)
	for name, doc := range cp.Extra {
		if name == gapsDoc || name == rigatoni.ExtraSnapshot {
			continue
		}
		if v.Extra == nil {
			v.Extra = map[string]json.RawMessage{}
		}
		v.Extra[name] = doc
	}
}

func viewToken(t resumetoken.Token) *TokenView {
	v := &TokenView{Format: "opaque", Bytes: t.Len()}
	d, err := t.Decode()
	if errors.Is(err, resumetoken.ErrOpaque) {
		return v
	} else if err != nil {
		v.Format, v.Error = "malformed", err.Error()
		return v
	}
	v.Format, v.HighWaterMark, v.Operation = d.Format.String(), d.HighWaterMark, d.OperationType
	v.Transaction, v.Invalidate = d.TxnOpIndex, d.FromInvalidate
	if !d.UUID.IsZero() {
		v.CollectionID = d.UUID.String()
	}
	if d.DocumentKey != nil {
		if doc, err := bson.MarshalExtJSON(d.DocumentKey, false, false); err == nil {
			v.DocumentKey = doc
		}
	}
	return v
}

// measure adds what the server says: how far behind the checkpoint is, and for how
// long it stays good.
func (v *View) measure(s *Server) {
	at := PositionOf(v.checkpoint).ClusterTime
	if now := s.Now(); at.T != 0 && now.T != 0 {
		v.Lag = seconds(max(0, time.Duration(int64(now.T)-int64(at.T))*time.Second))
	}
	v.Oldest = wall(s.history.Oldest)
	switch runway, known := s.history.Runway(at); {
	case known:
		v.Runway = seconds(runway)
	case s.unread != nil:
		v.Unknown = s.unread.Error()
	case at.IsZero():
		v.Unknown = "the checkpoint's time is unknown"
	default:
		v.Unknown = "the server has discarded nothing yet, and doesn't say how much room it has"
	}
}

// PositionOf is a checkpoint's position, with what the token itself says.
func PositionOf(cp state.Checkpoint) rigatoni.Position {
	pos := rigatoni.Position{Token: cp.Token, StartAfter: cp.StartAfter, ClusterTime: cp.ClusterTime}
	if d, err := cp.Token.Decode(); err == nil {
		pos.StartAfter, pos.ClusterTime = pos.StartAfter || d.FromInvalidate, d.ClusterTime
	}
	return pos
}

// text is a cluster time as log lines and --to-time have it.
func text(t bson.Timestamp) string {
	if t.IsZero() {
		return ""
	}
	return fmt.Sprintf("%d.%d", t.T, t.I)
}

// wall is a cluster time as a time, nil if it is unknown.
func wall(t bson.Timestamp) *time.Time {
	if t.T == 0 {
		return nil
	}
	at := time.Unix(int64(t.T), 0).UTC()
	return &at
}

func seconds(d time.Duration) *float64 {
	s := d.Round(time.Millisecond).Seconds()
	return &s
}
