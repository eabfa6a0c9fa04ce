package ndjson

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/rigatoni-etl/rigatoni"
)

// Files is the destination that writes to files, one after the other for each
// stream. Different streams write concurrently.
type Files struct {
	dir string
	o   Options
	fs  fileSystem

	made atomic.Bool // the directory was there
}

var _ rigatoni.Destination = (*Files)(nil)

// Open prepares the directory for a session of a stream: it creates it if need
// be, cuts the output back to what the checkpoint covers, gives what is left its
// final names, and returns the sink, which is also a [rigatoni.Committer] and an
// [io.Closer]. The sink writes to files that it creates itself.
//
// Where output and checkpoint disagree, the error is a [*rigatoni.OutputError]
// with one of [rigatoni.ErrOutputExists], [rigatoni.ErrOutputAhead] and
// [ErrOutputMissing].
func (d *Files) Open(ctx context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	for attempt := 1; ; attempt++ {
		s, err := d.open(ctx, o)
		switch {
		case err == nil:
			return s, nil
		case !errors.Is(err, errMoved) || attempt == 10:
			return nil, fmt.Errorf("ndjson: %w", err)
		}
	}
}

func (d *Files) open(ctx context.Context, o rigatoni.Opening) (*sink, error) {
	if o.Key == "" {
		return nil, errors.New("the opening has no key to name files after")
	}
	if d.made.Load() && d.isGone() {
		return nil, d.explain(fs.ErrNotExist)
	}
	if err := mkdir(d.fs, d.dir); err != nil {
		return nil, err
	}
	d.made.Store(true)
	r := &recovery{d: d, o: o, stem: stemOf(o.Key), log: d.o.Logger.With("key", o.Key)}
	if err := r.look(); err != nil {
		return nil, err
	}
	if len(r.listing.finished)+len(r.listing.open) == 0 && r.marker == nil {
		// The directory may be new: a process that was killed before it flushed the
		// entry leaves it looking old.
		if err := d.fs.syncDir(filepath.Dir(d.dir)); err != nil {
			return nil, err
		}
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	s := newSink(d, r)
	if err := r.run(ctx, s); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// look reads what is there: the directory, the marker, the checkpoint.
func (r *recovery) look() (err error) {
	if r.listing, err = list(r.d.dir, r.stem); err != nil {
		return err
	}
	if r.marker, err = readMarkers(r.d.dir, r.stem, r.listing.markers); err != nil {
		return err
	}
	r.covered, err = parseSaved(r.o.Saved, r.stem)
	if err != nil {
		r.log.Warn("the checkpoint's position in the output is ignored", "err", err, "saved", json.RawMessage(r.o.Saved))
	}
	return nil
}

func (d *Files) isGone() bool {
	_, err := os.Stat(d.dir)
	return errors.Is(err, fs.ErrNotExist)
}

// explain says what to do about an error that comes from the directory being gone.
func (d *Files) explain(err error) error {
	if !errors.Is(err, fs.ErrNotExist) || !d.isGone() {
		return err
	}
	return fmt.Errorf("the output directory %s was removed or moved while the pipeline ran; put it back, and the pipeline continues; "+
		"a restart makes a new one, and events in .partial files of the old one are then not finished (%w)", d.dir, err)
}
