package backend

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"path/filepath"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/writable"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

// Dir is the directory that the back end keeps its files in; "" if there is none.
func (r Ref) Dir() string {
	if r.Kind == nil || !r.Kind.path || r.URL.Opaque == "-" {
		return ""
	}
	path := r.URL.Path
	if r.URL.Opaque != "" {
		path, _ = url.PathUnescape(r.URL.Opaque) // parse has done it before
	}
	return filepath.FromSlash(path)
}

// OpenToRead opens the store without making anything, for those who only read. Of a
// directory or table that isn't there the note says so, and the store is an empty one.
func (s Store) OpenToRead(ctx context.Context, log *slog.Logger) (st state.Store, note string, err error) {
	dir := s.Ref.Dir()
	switch {
	case s.Ref.Kind != nil && s.Ref.Kind.read != nil:
		return s.Ref.Kind.read(ctx, s.Ref, log)
	case dir == "":
		st, err = s.Open(ctx, log)
		return st, "", err
	}
	exists, err := writable.Dir(dir)
	switch {
	case err != nil:
		return nil, "", &state.Error{Op: "open", Store: "filestore", Err: fmt.Errorf("%w: %w", state.ErrUnavailable, err)}
	case !exists:
		return missing{memstore.New()}, "the directory isn't there; a start makes it", nil
	}
	st, err = s.Open(ctx, log)
	return st, "", err
}

// OpenToRead opens the destination without making anything. Of what isn't there, and
// a start would make, the note says so.
func (d Destination) OpenToRead(ctx context.Context, log *slog.Logger) (dest rigatoni.Destination, note string, err error) {
	if d.Ref.Kind.look != nil {
		return d.Ref.Kind.look(ctx, d.Ref, log)
	}
	dest, err = d.Open(ctx, io.Discard, log)
	return dest, "", err
}

// missing is a store that has nothing yet, and will keep what it gets.
type missing struct{ *memstore.Store }

func (missing) Volatile() bool { return false }
