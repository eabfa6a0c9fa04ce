package ndjson

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// A disk is a file system in a real directory that knows what of it has been
// flushed, so that a test can cut the power. It can be told to fail.
type disk struct {
	mu    sync.Mutex
	files map[string]*onDisk // by path

	// fault, if set, is asked before each operation ("create", "open", "write",
	// "truncate", "sync", "syncDir", "close"); its error is that of the operation. For a
	// write it says how much of it is written before the error.
	fault func(op, path string, size int) (int, error)
}

type onDisk struct {
	entry    bool  // the directory's entry has been flushed
	flushed  int64 // so many bytes have
	poisoned bool  // a flush has failed: the kernel dropped the pages, and says success from now on
}

func newDisk() *disk { return &disk{files: map[string]*onDisk{}} }

func (d *disk) fail(op, path string, size int) (int, error) {
	if d.fault == nil {
		return 0, nil
	}
	return d.fault(op, filepath.Base(path), size)
}

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
	return &diskFile{f, d, d.files[path], path}, nil
}

func (d *disk) open(path string) (file, error) {
	if _, err := d.fail("open", path, 0); err != nil {
		return nil, err
	}
	f, err := osFS{}.open(path)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files[path] == nil {
		d.files[path] = &onDisk{entry: true} // the test made it
	}
	return &diskFile{f, d, d.files[path], path}, nil
}

func (d *disk) syncDir(path string) error {
	if _, err := d.fail("syncDir", path, 0); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, f := range d.files {
		if filepath.Dir(name) == path {
			f.entry = true
		}
	}
	return nil
}

// cutPower leaves of each file what was flushed, and of the rest what a real
// file system may leave: nothing, a part of it, zeros in between.
func (d *disk) cutPower(t *testing.T, rng *rand.Rand) {
	d.fault = nil
	for _, path := range slices.Sorted(maps.Keys(d.files)) {
		f := d.files[path]
		data, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			delete(d.files, path)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if !f.entry && rng.IntN(2) == 0 {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			delete(d.files, path)
			continue
		}
		if rest := int64(len(data)) - f.flushed; rest > 0 {
			data = data[:f.flushed+rng.Int64N(rest+1)]
			for i := int(f.flushed); i < len(data); i += 64 {
				if rng.IntN(4) == 0 {
					clear(data[i:min(i+64, len(data))])
				}
			}
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		d.files[path] = &onDisk{entry: true, flushed: int64(len(data))}
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
	f.f.flushed = min(f.f.flushed, size)
	return f.file.Truncate(size)
}

func (f *diskFile) Sync() error {
	if _, err := f.d.fail("sync", f.path, 0); err != nil {
		f.f.poisoned = true
		return err
	}
	if f.f.poisoned {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	f.f.flushed = info.Size()
	return nil
}

func (f *diskFile) Close() error {
	_, err := f.d.fail("close", f.path, 0)
	if cerr := f.file.Close(); err == nil {
		err = cerr
	}
	return err
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
