package filestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// A disk is one with a write cache. It is the only file of a FUSE file system of this
// process, below a loop device; so writes, and flushes of the device, come here each by
// itself. When its power is cut, any of the sectors that were written since the last
// flush may be there or not, which the shutdown of a file system on a disk that lives on
// can't do: it never loses what a flush of the device was forgotten for.
type disk struct {
	fuse int // /dev/fuse
	dir  string

	mu      sync.Mutex
	r       *rand.Rand
	now     *os.File // with all writes
	platter *os.File // with those that were flushed
	cache   []diskWrite
	size    int64

	countdown int  // of requests, to the power cut; 0: none is to come
	onFlush   bool // only flushes count
	dead      chan struct{}
	isDead    bool
	bad       int // the number of the next writes of a store's files that fail
}

type diskWrite struct {
	at   int64
	data []byte
}

const diskName = "disk"

// newDisk makes a disk of an image, mounted on dir.
func newDisk(t *testing.T, image, dir string, r *rand.Rand) *disk {
	t.Helper()
	d := &disk{dir: dir, r: r, dead: make(chan struct{})}
	var err error
	d.platter, err = os.OpenFile(image, os.O_RDWR, 0)
	must(t, err)
	info, err := d.platter.Stat()
	must(t, err)
	d.size = info.Size()
	d.now, err = os.Create(image + ".now")
	must(t, err)
	must(t, d.now.Truncate(d.size))
	must(t, copyData(d.now, d.platter, d.size))
	d.fuse, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("power cuts of a disk need /dev/fuse: %v", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", d.fuse)
	if err := unix.Mount("filestore-disk", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		t.Skipf("power cuts of a disk need FUSE: %v", err)
	}
	go d.serve()
	return d
}

// copyData copies a file, but not its holes.
func copyData(to, from *os.File, size int64) error {
	for at := int64(0); at < size; {
		start, err := unix.Seek(int(from.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		if at, err = unix.Seek(int(from.Fd()), start, unix.SEEK_HOLE); err != nil {
			return err
		}
		b := make([]byte, at-start)
		if _, err := from.ReadAt(b, start); err != nil {
			return err
		}
		if _, err := to.WriteAt(b, start); err != nil {
			return err
		}
	}
	return nil
}

// cutAfter cuts the power at the n-th request from now, or at the n-th flush, when most
// is at stake.
func (d *disk) cutAfter(n int, flushes bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.countdown, d.onFlush = n, flushes
}

// cut cuts the power now.
func (d *disk) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.die()
}

func (d *disk) die() {
	if !d.isDead {
		d.isDead = true
		close(d.dead)
	}
}

// failWrites makes the next n writes of a store's files fail, and nothing else.
func (d *disk) failWrites(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bad = n
}

// tick counts a request, and reports whether the disk is dead.
func (d *disk) tick(flush bool) bool {
	if d.countdown > 0 && (flush || !d.onFlush) {
		if d.countdown--; d.countdown == 0 {
			d.die()
		}
	}
	return d.isDead
}

// revive turns the power on again, after whoever used the disk is gone.
func (d *disk) revive() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.lose(); err != nil {
		return err
	}
	d.isDead, d.dead, d.bad, d.countdown = false, make(chan struct{}), 0, 0
	return nil
}

// lose brings some of what was cached to the platter, and forgets the rest. The disk may
// tear the contents of files at every sector. Of what the file system writes for itself
// it tears none of 4,096 bytes: not every file system bears that.
func (d *disk) lose() error {
	survives := []float64{0, 1, 0.5, d.r.Float64()}[d.r.IntN(4)]
	bySector := d.r.IntN(2) == 0
	for _, w := range d.cache {
		all := d.r.Float64() < survives
		for len(w.data) > 0 {
			n := min(len(w.data), slotUnit-int(w.at%slotUnit))
			unit := n
			if isText(w.data[:n]) {
				unit = sector
			}
			for ; n > 0; n -= unit {
				if all && !bySector || bySector && d.r.Float64() < survives {
					if _, err := d.platter.WriteAt(w.data[:unit], w.at); err != nil {
						return err
					}
				}
				w.at, w.data = w.at+int64(unit), w.data[unit:]
			}
		}
	}
	for _, w := range d.cache {
		b := make([]byte, len(w.data))
		if _, err := d.platter.ReadAt(b, w.at); err != nil {
			return err
		}
		if _, err := d.now.WriteAt(b, w.at); err != nil {
			return err
		}
	}
	d.cache = nil
	return nil
}

// isText reports whether a block is one of a store's files.
func isText(b []byte) bool {
	for _, c := range b {
		if c != '\n' && (c < ' ' || c > '~') {
			return false
		}
	}
	return len(bytes.TrimRight(b, "\n")) > 0
}

func (d *disk) write(at int64, data []byte) unix.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tick(false) {
		return unix.EIO
	}
	if d.bad > 0 && isText(data) {
		d.bad--
		return unix.EIO
	}
	if _, err := d.now.WriteAt(data, at); err != nil {
		return unix.EIO
	}
	d.cache = append(d.cache, diskWrite{at, bytes.Clone(data)})
	return 0
}

func (d *disk) flush() unix.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tick(true) {
		return unix.EIO
	}
	for _, w := range d.cache {
		if _, err := d.platter.WriteAt(w.data, w.at); err != nil {
			return unix.EIO
		}
	}
	d.cache = nil
	return 0
}

func (d *disk) read(at int64, b []byte) (int, unix.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isDead {
		return 0, unix.EIO
	}
	n := min(int64(len(b)), max(0, d.size-at))
	if _, err := d.now.ReadAt(b[:n], at); err != nil {
		return 0, unix.EIO
	}
	return int(n), 0
}

// The protocol of FUSE, as far as a loop device makes use of it: linux/fuse.h.
const (
	fuseLookup      = 1
	fuseForget      = 2
	fuseGetattr     = 3
	fuseOpen        = 14
	fuseRead        = 15
	fuseWrite       = 16
	fuseRelease     = 18
	fuseFsync       = 20
	fuseFlush       = 25
	fuseInit        = 26
	fuseInterrupt   = 36
	fuseBatchForget = 42

	fuseHead     = 40
	fuseDirectIO = 1 // no cache above the disk
	fuseMaxWrite = 128 << 10
)

// serve answers the kernel until the file system is unmounted.
func (d *disk) serve() {
	defer func() {
		d.now.Close()
		d.platter.Close()
		unix.Close(d.fuse)
	}()
	request := make([]byte, fuseMaxWrite+slotUnit)
	for {
		n, err := unix.Read(d.fuse, request)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOENT):
			continue
		case err != nil:
			return
		}
		op := binary.LittleEndian.Uint32(request[4:])
		if op == fuseForget || op == fuseBatchForget || op == fuseInterrupt {
			continue // they get no answer
		}
		body, errno := d.answer(op, binary.LittleEndian.Uint64(request[16:]), request[fuseHead:n])
		if errno != 0 {
			body = nil
		}
		head := binary.LittleEndian.AppendUint32(nil, uint32(16+len(body)))
		head = binary.LittleEndian.AppendUint32(head, uint32(-int32(errno)))
		head = append(head, request[8:16]...)
		if _, err := unix.Write(d.fuse, append(head, body...)); err != nil && !errors.Is(err, unix.ENOENT) {
			return
		}
	}
}

func (d *disk) answer(op uint32, node uint64, in []byte) ([]byte, unix.Errno) {
	le := binary.LittleEndian
	switch op {
	case fuseInit:
		const bigWrites, maxPages = 1 << 5, 1 << 22
		out := le.AppendUint32(le.AppendUint32(nil, 7), 31)
		out = le.AppendUint32(le.AppendUint32(out, 0), bigWrites|maxPages)
		out = le.AppendUint32(le.AppendUint32(out, 0), fuseMaxWrite)
		out = le.AppendUint32(le.AppendUint32(out, 1), fuseMaxWrite/slotUnit)
		return append(out, make([]byte, 64-len(out))...), 0
	case fuseLookup:
		if string(bytes.TrimRight(in, "\x00")) != diskName {
			return nil, unix.ENOENT
		}
		return append(le.AppendUint64(nil, 2), append(make([]byte, 32), d.attr(2)...)...), 0
	case fuseGetattr:
		return append(make([]byte, 16), d.attr(node)...), 0
	case fuseOpen:
		return le.AppendUint32(le.AppendUint32(make([]byte, 8), fuseDirectIO), 0), 0
	case fuseRead:
		out := make([]byte, le.Uint32(in[16:]))
		n, errno := d.read(int64(le.Uint64(in[8:])), out)
		return out[:n], errno
	case fuseWrite:
		data := in[40:][:le.Uint32(in[16:])]
		return le.AppendUint64(nil, uint64(len(data))), d.write(int64(le.Uint64(in[8:])), data)
	case fuseFsync:
		return nil, d.flush()
	case fuseFlush, fuseRelease:
		return nil, 0
	}
	return nil, unix.ENOSYS
}

func (d *disk) attr(node uint64) []byte {
	le := binary.LittleEndian
	mode, size := uint32(unix.S_IFDIR|0o700), uint64(0)
	if node == 2 {
		mode, size = unix.S_IFREG|0o600, uint64(d.size)
	}
	out := le.AppendUint64(le.AppendUint64(le.AppendUint64(nil, node), size), size/sector)
	out = append(out, make([]byte, 36)...) // times
	out = le.AppendUint32(le.AppendUint32(out, mode), 1)
	return append(out, make([]byte, 88-len(out))...)
}

func (d *disk) file() string { return filepath.Join(d.dir, diskName) }
