package ndjson

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
)

// A disk is a file system in a real directory that knows what of it has been
// flushed, so that a test can cut the power. It can be made to fail.
//
// It keeps entries of directories as journaling file systems do: a power cut takes
// away the last changes since syncDir, in order, and flushing any directory makes
// all of them durable. What a file holds is independent of that.
type disk struct {
	mu     sync.Mutex
	files  map[string]*onDisk // by path
	undo   []func() error     // of each change of a directory that is not durable
	buried int
	grave  string // where removed files lie until that is durable

	// fault, if set, is asked before each operation ("create", "open", "write",
	// "truncate", "sync", "rename", "remove", "syncDir", "close"); its error is that of
	// the operation. For a write it says how much of it is written before the error.
	fault func(op, path string, size int) (int, error)
}

// An onDisk is what is known of a file.
type onDisk struct {
	flushed int64  // this many bytes have been
	longer  []byte // what it was before it was cut, as long as that is not flushed
	dropped bool   // a flush has failed: the kernel dropped what was not flushed, and reports success from now on
}

func newDisk(grave string) *disk { return &disk{files: map[string]*onDisk{}, grave: grave} }

func (d *disk) fail(op, path string, size int) (int, error) {
	d.mu.Lock()
	fault := d.fault
	d.mu.Unlock()
	if fault == nil {
		return 0, nil
	}
	return fault(op, filepath.Base(path), size)
}

// setFault changes what fails while a pipeline runs.
func (d *disk) setFault(fault func(op, path string, size int) (int, error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = fault
}

func (d *disk) changed(undo func() error) { d.undo = append(d.undo, undo) }

func (d *disk) create(path string) (file, error) {
	if _, err := d.fail("create", path, 0); err != nil {
		return nil, err
	}
	f, err := osFS{}.create(path)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files[path] = &onDisk{}
	d.changed(func() error { delete(d.files, path); return os.Remove(path) })
	return &diskFile{f, d, d.files[path], path}, nil
}

func (d *disk) open(path string) (file, use, error) {
	if _, err := d.fail("open", path, 0); err != nil {
		return nil, unknown, err
	}
	f, used, err := osFS{}.open(path)
	if err != nil {
		return nil, unknown, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return &diskFile{f, d, d.known(path), path}, used, nil
}

// known is the file at path, nil if there is none; a test may have made it, or
// removed it.
func (d *disk) known(path string) *onDisk {
	info, err := os.Stat(path)
	if err != nil {
		delete(d.files, path)
		return nil
	}
	if d.files[path] == nil {
		d.files[path] = &onDisk{flushed: info.Size()}
	}
	return d.files[path]
}

// move renames a file, and returns how to undo it.
func (d *disk) move(from, to string) (func() error, error) {
	if err := os.Rename(from, to); err != nil {
		return nil, err
	}
	d.files[to] = d.files[from]
	delete(d.files, from)
	return func() error { _, err := d.move(to, from); return err }, nil
}

func (d *disk) rename(from, to string) error {
	if _, err := d.fail("rename", from, 0); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known(from) == nil || from == to {
		return os.Rename(from, to) // an error, or nothing
	}
	back := func() error { return nil }
	if d.known(to) != nil {
		var err error
		if back, err = d.bury(to); err != nil {
			return err
		}
	}
	undo, err := d.move(from, to)
	if err == nil {
		d.changed(func() error { return errors.Join(undo(), back()) }) // it is atomic
	}
	return err
}

func (d *disk) remove(path string) error {
	if _, err := d.fail("remove", path, 0); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known(path) == nil {
		return os.Remove(path)
	}
	undo, err := d.bury(path)
	if err == nil {
		d.changed(undo)
	}
	return err
}

func (d *disk) bury(path string) (undo func() error, err error) {
	d.buried++
	return d.move(path, filepath.Join(d.grave, fmt.Sprint(d.buried)))
}

func (d *disk) syncDir(path string) error {
	if _, err := d.fail("syncDir", path, 0); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.undo = nil
	return nil
}

// cutPower leaves of each file what was flushed, and of the rest what a real
// file system may leave: nothing, a part of it, zeros in between.
func (d *disk) cutPower(t *testing.T, rng *rand.Rand) {
	d.fault = nil
	kept := rng.IntN(len(d.undo) + 1)
	for _, undo := range slices.Backward(d.undo[kept:]) {
		if err := undo(); err != nil {
			t.Fatal(err)
		}
	}
	d.undo = nil
	for _, path := range slices.Sorted(maps.Keys(d.files)) {
		f := d.files[path]
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if f.longer != nil && rng.IntN(2) == 0 {
			data, f.flushed = f.longer, int64(len(f.longer))
		}
		if rest := int64(len(data)) - f.flushed; rest > 0 {
			data = data[:f.flushed+rng.Int64N(rest+1)]
			for i := int(f.flushed); i < len(data); i += 64 {
				if rng.IntN(4) == 0 {
					clear(data[i:min(i+64, len(data))])
				}
			}
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		d.files[path] = &onDisk{flushed: int64(len(data))}
	}
}

type diskFile struct {
	file
	d    *disk
	f    *onDisk
	path string
}

func (f *diskFile) Write(p []byte) (int, error) {
	if n, err := f.d.fail("write", f.path, len(p)); err != nil {
		if _, werr := f.file.Write(p[:n]); werr != nil {
			return 0, werr
		}
		return n, err
	}
	return f.file.Write(p)
}

func (f *diskFile) Truncate(size int64) error {
	if _, err := f.d.fail("truncate", f.path, 0); err != nil {
		return err
	}
	if f.f.flushed > size {
		f.f.longer = make([]byte, f.f.flushed)
		if _, err := f.ReadAt(f.f.longer, 0); err != nil {
			f.f.longer = nil // opened to write only
		}
	}
	f.f.flushed = min(f.f.flushed, size)
	return f.file.Truncate(size)
}

func (f *diskFile) Sync() error {
	if _, err := f.d.fail("sync", f.path, 0); err != nil {
		f.f.dropped = true
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	f.f.longer = nil
	if f.f.dropped = f.f.dropped && info.Size() > f.f.flushed; !f.f.dropped {
		f.f.flushed = info.Size()
	}
	return nil
}

func (f *diskFile) Close() error {
	_, err := f.d.fail("close", f.path, 0)
	if cerr := f.file.Close(); err == nil {
		err = cerr
	}
	return err
}

// A process is the disk as one process sees it. Once it is dead, nothing that it
// still does has an effect.
type process struct {
	*disk
	before  func(op, path string) // called before each operation, if set
	fault   func() error          // asked before each operation, if set
	lose    bool                  // the next operation is done, and reports an error
	after   func()                // called after each rename, if set
	dead    bool
	handles []file
}

var errDead = errors.New("the process is dead")

func (p *process) step(op, path string) error {
	if p.before != nil && !p.dead {
		p.before(op, path)
	}
	if p.dead {
		return errDead
	}
	if p.fault != nil {
		return p.fault()
	}
	return nil
}

// answer is the error of an operation that was done.
func (p *process) answer(err error) error {
	if p.lose {
		p.lose = false
		return syscall.EIO
	}
	return err
}

// kill ends the process: the kernel closes its files, and forgets its locks.
func (p *process) kill() {
	if p.dead {
		return
	}
	p.dead = true
	for _, h := range p.handles {
		_ = h.(*diskFile).file.Close()
	}
}

func (p *process) handle(f file, err error) (file, error) {
	if err != nil {
		return nil, err
	}
	p.handles = append(p.handles, f)
	return &processFile{f, p}, nil
}

func (p *process) create(path string) (file, error) {
	if err := p.step("create", path); err != nil {
		return nil, err
	}
	return p.handle(p.disk.create(path))
}

func (p *process) open(path string) (file, use, error) {
	if err := p.step("open", path); err != nil {
		return nil, unknown, err
	}
	f, used, err := p.disk.open(path)
	f, err = p.handle(f, err)
	return f, used, err
}

func (p *process) rename(from, to string) error {
	if err := p.step("rename", from+" "+filepath.Base(to)); err != nil {
		return err
	}
	err := p.disk.rename(from, to)
	if p.after != nil {
		p.after()
	}
	return p.answer(err)
}

func (p *process) remove(path string) error {
	if err := p.step("remove", path); err != nil {
		return err
	}
	return p.answer(p.disk.remove(path))
}

func (p *process) syncDir(path string) error {
	if err := p.step("syncDir", path); err != nil {
		return err
	}
	return p.answer(p.disk.syncDir(path))
}

type processFile struct {
	file
	p *process
}

func (f *processFile) Write(b []byte) (int, error) {
	if err := f.p.step("write", f.file.(*diskFile).path); err != nil {
		return 0, err
	}
	return f.file.Write(b)
}

func (f *processFile) Truncate(size int64) error {
	if err := f.p.step("truncate", f.file.(*diskFile).path); err != nil {
		return err
	}
	return f.file.Truncate(size)
}

func (f *processFile) Sync() error {
	if err := f.p.step("sync", f.file.(*diskFile).path); err != nil {
		return err
	}
	return f.p.answer(f.file.Sync())
}

func (f *processFile) Close() error {
	if err := f.p.step("close", f.file.(*diskFile).path); err != nil {
		return err
	}
	return f.p.answer(f.file.Close())
}

// tempDir is a directory in memory where there is such a place: the disk is a
// simulated one, and a busy real one makes the tests take minutes.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "ndjson-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
