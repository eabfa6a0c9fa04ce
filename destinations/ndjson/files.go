package ndjson

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/rigatoni-etl/rigatoni"
)

// Files is the destination that writes to files, one after the other for each
// stream. Different streams write concurrently.
type Files struct {
	dir string
	o   Options
	fs  fileSystem

	mu    sync.Mutex
	made  fs.FileInfo           // the directory, once it was there
	owned map[string]*ownership // by stem
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
	dir, err := d.makeDir()
	if err != nil {
		return nil, err
	}
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
	if err := r.settle(); err != nil {
		return nil, err
	}
	s := newSink(d, r)
	s.dir = dir
	if err := r.run(ctx, s); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// settle decides whether the output can be continued. Once it has, the recovery owns a
// generation.
func (r *recovery) settle() error {
	if err := r.remember(); err != nil {
		return err
	}
	if err := r.restore(); err != nil {
		return err
	}
	accept, err := r.check()
	if err != nil {
		return err
	}
	if err := r.own(); err != nil {
		return err
	}
	if accept == nil {
		return nil
	}
	return r.accept(accept)
}

// remember writes the marker again, if this process knows more than the directory: it
// was replaced. What is missing in it is then found at the next start, too.
func (r *recovery) remember() error {
	r.owned = r.d.ownership(r.stem, r.o.Fence)
	if r.owned == nil || r.owned.marker == nil {
		return nil
	}
	known := r.owned.marker
	if r.marker != nil && r.marker.extent().compare(known.extent()) >= 0 {
		return nil
	}
	err := r.d.writeMarker(r.stem, r.owned, *known)
	r.marker = r.owned.marker
	return err
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

// makeDir creates the directory, or finds it. One that has gone since is made again,
// but only on the file system where it was: elsewhere, that one is not mounted any
// more, and has the output.
func (d *Files) makeDir() (fs.FileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.made != nil && deviceAt(d.dir) != device(d.made) {
		return nil, fmt.Errorf("the output directory %s is on another file system than when the pipeline began to write there; "+
			"mount that one again, and the pipeline continues, or restart the pipeline to begin a new directory", d.dir)
	}
	if err := d.mkdir(); err != nil {
		return nil, err
	}
	info, err := os.Stat(d.dir)
	if err != nil {
		return nil, err
	}
	if d.made != nil && !os.SameFile(info, d.made) {
		d.o.Logger.Warn("the output directory was removed, moved or replaced while the pipeline ran; output continues in the new one", "dir", d.dir)
	}
	d.made = info
	return info, nil
}

// mkdir creates the directory, with the permissions that it had before.
func (d *Files) mkdir() error {
	_, err := os.Stat(d.dir)
	gone := d.made != nil && errors.Is(err, fs.ErrNotExist)
	if err := mkdir(d.fs, d.dir); err != nil || !gone {
		return err
	}
	return os.Chmod(d.dir, d.made.Mode().Perm())
}

// deviceAt returns the file system of path, or of what would be its parent.
func deviceAt(path string) uint64 {
	info, err := os.Stat(path)
	for err != nil && path != filepath.Dir(path) {
		path = filepath.Dir(path)
		info, err = os.Stat(path)
	}
	if err != nil {
		return 0
	}
	return device(info)
}

// replace writes a file as a whole, durably: after a crash it is there, or not.
func (d *Files) replace(path string, r io.Reader) error {
	temp := path + ".new"
	if err := d.fs.remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.fs.create(temp)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := d.fs.rename(temp, path); err != nil {
		return err
	}
	return d.fs.syncDir(d.dir)
}
