package checkpoints

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A Report is what list, show and verify print. Its JSON is documented in
// docs/checkpoint.md: names are never changed, and unknown values are left out.
type Report struct {
	Server      *ServerView `json:"server,omitempty"` // left out if none was asked
	Checkpoints []View      `json:"checkpoints"`
}

// A ServerView is what a server says about itself.
type ServerView struct {
	Set         string     `json:"set,omitempty"`
	ID          string     `json:"id,omitempty"`
	Time        *time.Time `json:"time,omitempty"`
	ClusterTime string     `json:"cluster_time,omitempty"`
	Oldest      *time.Time `json:"oldest,omitempty"` // its oldest event
}

func (s *Server) view() *ServerView {
	if s == nil {
		return nil
	}
	return &ServerView{Set: s.identity.Set, ID: s.identity.ID, Time: wall(s.Now()), ClusterTime: text(s.Now()), Oldest: wall(s.history.Oldest)}
}

// List reports what the store has under a prefix of its keys. server may be nil.
func List(ctx context.Context, s state.Store, server *Server, prefix string) (Report, error) {
	r := Report{Server: server.view(), Checkpoints: []View{}}
	all, lost, err := entries(ctx, s, prefix)
	if err != nil {
		return r, err
	}
	for _, e := range all {
		r.Checkpoints = append(r.Checkpoints, viewOf(e, lost, server))
	}
	return r, nil
}

func viewOf(e state.Entry, lost map[string]state.Checkpoint, server *Server) View {
	var known *state.Checkpoint
	if cp, ok := lost[e.Key]; ok {
		known = &cp
	}
	v := view(e, known, time.Now())
	if server != nil && !v.checkpoint.Token.IsZero() {
		v.measure(server)
	}
	return v
}

// Show reports all that is known of some keys, with the server's answer to a start
// there; server may be nil. A key that the store does not have is an [ErrNone].
func Show(ctx context.Context, s state.Store, server *Server, keys []Key) (Report, error) {
	r := Report{Server: server.view(), Checkpoints: []View{}}
	for _, k := range keys {
		e, lost, err := find(ctx, s, k)
		if err != nil {
			return r, err
		}
		v := viewOf(e, lost, server)
		v.detail()
		if server != nil && v.State == stateSaved {
			v.Verdict = verdict(server.try(ctx, k, v.checkpoint))
		}
		r.Checkpoints = append(r.Checkpoints, v)
	}
	return r, nil
}

func find(ctx context.Context, s state.Store, k Key) (state.Entry, map[string]state.Checkpoint, error) {
	all, lost, err := entries(ctx, s, k.String())
	if err != nil {
		return state.Entry{}, nil, err
	}
	for _, e := range all {
		if e.Key == k.String() {
			return e, lost, nil
		}
	}
	return state.Entry{}, nil, unknown(ctx, s, k)
}

// try asks the server for its answer to a start at a checkpoint.
func (s *Server) try(ctx context.Context, k Key, cp state.Checkpoint) error {
	if !s.identity.Has(cp.Fingerprint) {
		return s.another(cp.Fingerprint)
	}
	stream, err := s.Stream(k, cp.Fingerprint)
	if err != nil {
		return err
	}
	if !k.Configured {
		cp.Fingerprint = "" // the stream was made from it
	}
	return stream.Try(ctx, cp)
}

// another is the error for a fingerprint of another deployment.
func (s *Server) another(fingerprint string) error {
	return fmt.Errorf("%w: one of another deployment: the checkpoint is of %q, and this server is of the set %q with the id %q",
		rigatoni.ErrChangedStream, fingerprint, s.identity.Set, s.identity.ID)
}

// Err is why a pipeline could not start at one of the checkpoints; nil if it could
// start at all of them.
func (r Report) Err() error {
	var errs []error
	for _, v := range r.Checkpoints {
		switch {
		case v.State == stateLost:
			errs = append(errs, fmt.Errorf("%q: %w", v.Key, rigatoni.ErrCheckpointLost))
		case v.loadErr != nil:
			errs = append(errs, fmt.Errorf("%q: %w", v.Key, v.loadErr))
		case v.Verdict != nil && v.Verdict.err != nil:
			errs = append(errs, fmt.Errorf("%q: %w", v.Key, v.Verdict.err))
		}
	}
	return errors.Join(errs...)
}

// An Export is checkpoints as a file, which import reads.
type Export struct {
	Version     int        `json:"rigatoni_checkpoints"`
	Checkpoints []Exported `json:"checkpoints"`
}

// An Exported is one checkpoint in a file.
type Exported struct {
	Key         string                     `json:"key"`
	Token       json.RawMessage            `json:"token"` // as Extended JSON
	StartAfter  bool                       `json:"start_after,omitempty"`
	ClusterTime string                     `json:"cluster_time,omitempty"`
	SavedAt     time.Time                  `json:"saved_at"`
	Fingerprint string                     `json:"fingerprint,omitempty"`
	Extra       map[string]json.RawMessage `json:"extra,omitempty"`
}

const exportVersion = 1

// ExportKeys returns the checkpoints of some keys as a file.
func ExportKeys(ctx context.Context, s state.Store, keys []Key) (Export, error) {
	x := Export{Version: exportVersion, Checkpoints: []Exported{}}
	for _, k := range keys {
		cp, err := s.Load(ctx, k.String())
		if errors.Is(err, state.ErrNotFound) {
			return x, unknown(ctx, s, k)
		} else if err != nil {
			return x, err
		}
		token, err := cp.Token.ExtJSON()
		if err != nil {
			return x, err
		}
		x.Checkpoints = append(x.Checkpoints, Exported{
			Key: k.String(), Token: token, StartAfter: cp.StartAfter, ClusterTime: text(cp.ClusterTime),
			SavedAt: cp.SavedAt.UTC(), Fingerprint: cp.Fingerprint, Extra: cp.Extra,
		})
	}
	return x, nil
}

// ReadExport reads what ExportKeys made.
func ReadExport(doc []byte) (Export, error) {
	var x Export
	if err := json.Unmarshal(doc, &x); err != nil || x.Version == 0 {
		return x, fmt.Errorf("%w: this is not what checkpoint export prints", ErrRefused)
	}
	if x.Version != exportVersion {
		return x, fmt.Errorf("%w: a later version of rigatoni exported this (format %d, and this one reads %d)", ErrRefused, x.Version, exportVersion)
	}
	return x, nil
}

// For returns the checkpoint of a key. One that was exported alone is taken under
// any name.
func (x Export) For(k Key, only bool) (state.Checkpoint, error) {
	var names []string
	for _, e := range x.Checkpoints {
		if e.Key == k.String() || only && len(x.Checkpoints) == 1 {
			token, err := ParseToken(e.Token)
			return state.Checkpoint{Token: token, StartAfter: e.StartAfter, Fingerprint: e.Fingerprint, Extra: e.Extra}, err
		}
		names = append(names, e.Key)
	}
	return state.Checkpoint{}, fmt.Errorf("%w: there is no checkpoint of %q in it; it has %q", ErrRefused, k, names)
}
