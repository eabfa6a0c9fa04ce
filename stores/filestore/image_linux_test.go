package filestore

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A fsKind is a file system as it was made and mounted.
type fsKind struct {
	name  string
	mkfs  []string // the command that makes it, without the image
	mount string   // options

	failless bool // it can't bear a disk that has failed to write a file's contents
	fullOnly bool // only in the full campaign
}

// An image is a file system in a file, mounted on a directory of its own.
type image struct {
	kind      fsKind
	file, dir string
	disk      *disk // nil: there is nothing between the loop device and the file
}

const (
	scratchPrefix = "filestore-powercut-"
	imageSize     = 400 << 20 // xfs takes no less than 300 MiB; most of it is never written
)

// scratch is a directory for images. It is in memory where it can be: the power cut is
// that of the file system in the image, and whatever lies below it keeps its word.
func scratch(t *testing.T) string {
	t.Helper()
	base := os.TempDir()
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		base = "/dev/shm"
	}
	sweepScratch(t, base)
	dir, err := os.MkdirTemp(base, fmt.Sprintf("%s%d-", scratchPrefix, os.Getpid()))
	must(t, err)
	t.Cleanup(func() {
		for _, err := range []error{unmountBelow(dir), os.RemoveAll(dir)} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	return dir
}

// sweepScratch removes what runs have left that were killed.
func sweepScratch(t *testing.T, base string) {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(base, scratchPrefix+"*"))
	must(t, err)
	for _, dir := range dirs {
		text, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), scratchPrefix), "-")
		pid, err := strconv.Atoi(text)
		if err != nil || unix.Kill(pid, 0) == nil {
			continue
		}
		t.Logf("removing %s, which a run that was killed has left", dir)
		must(t, unmountBelow(dir))
		must(t, os.RemoveAll(dir))
	}
}

// unmountBelow unmounts, lazily, whatever is mounted below dir. Their loop devices go
// with them.
func unmountBelow(dir string) error {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return err
	}
	defer f.Close()
	var mounts []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			mounts = append(mounts, fields[1])
		}
	}
	var errs []error
	for _, m := range slices.Backward(mounts) {
		if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
			errs = append(errs, &os.PathError{Op: "umount", Path: m, Err: err})
		}
	}
	return errors.Join(errs...)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("power cuts need root, to mount file systems and to shut them down")
	}
}

// makeImage makes a file system. If this machine can't, the test is skipped, and says
// why.
func makeImage(t *testing.T, kind fsKind) *image {
	t.Helper()
	needRoot(t)
	for _, command := range []string{kind.mkfs[0], "mount"} {
		if _, err := exec.LookPath(command); err != nil {
			t.Skipf("power cuts need %s (Debian: apt-get install e2fsprogs xfsprogs mount)", command)
		}
	}
	base := scratch(t)
	im := &image{kind: kind, file: filepath.Join(base, "image"), dir: filepath.Join(base, "mounted")}
	must(t, os.Mkdir(im.dir, 0o700))
	must(t, os.WriteFile(im.file, nil, 0o600))
	must(t, os.Truncate(im.file, imageSize))
	if out, err := exec.Command(kind.mkfs[0], append(kind.mkfs[1:], im.file)...).CombinedOutput(); err != nil {
		t.Skipf("power cuts on %s: %s can't make it: %s", kind.name, kind.mkfs[0], strings.TrimSpace(string(out)))
	}
	return im
}

// mountFirst mounts the image for the first time, or skips the test.
func (im *image) mountFirst(t *testing.T) {
	t.Helper()
	if err := im.mount(); err != nil {
		t.Skipf("power cuts on %s: it can't be mounted here: %v", im.kind.name, err)
	}
}

// onDisk puts a disk with a cache below the image.
func (im *image) onDisk(t *testing.T, r *rand.Rand) {
	t.Helper()
	dir := filepath.Join(filepath.Dir(im.file), "device")
	must(t, os.Mkdir(dir, 0o700))
	im.disk = newDisk(t, im.file, dir, r)
	im.file = im.disk.file()
}

func (im *image) mount() error {
	options := "loop"
	if im.kind.mount != "" {
		options += "," + im.kind.mount
	}
	out, err := exec.Command("mount", "-o", options, im.file, im.dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mount -o %s: %w: %s", options, err, out)
	}
	return nil
}

// unmount waits for whoever was killed in the file system to be gone from it.
func (im *image) unmount() error {
	const patience = time.Minute
	for start := time.Now(); ; {
		err := unix.Unmount(im.dir, 0)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Since(start) > patience {
			return &os.PathError{Op: "umount", Path: im.dir, Err: err}
		}
		<-time.After(time.Millisecond)
	}
}

// What ext4 calls EXT4_IOC_SHUTDOWN and xfs XFS_IOC_GOINGDOWN: from then on the file
// system writes nothing more. With logFlush the journal is written before, but no
// contents of files.
const (
	iocShutdown = 0x8004587d
	logFlush    = 1
	noLogFlush  = 2
)

// cutPower cuts the disk's power, or else shuts the file system down.
func (im *image) cutPower(r *rand.Rand) error {
	if im.disk == nil {
		return im.shutDown([]int{logFlush, noLogFlush}[r.IntN(2)])
	}
	if n := r.IntN(30); n < 20 {
		im.disk.cutAfter(1+n/2, true)
	} else {
		im.disk.cutAfter(n, false)
	}
	select {
	case <-im.disk.dead:
	case <-time.After(20 * time.Millisecond): // nobody writes any more
		im.disk.cut()
	}
	return im.shutDown(noLogFlush) // or it would try for long
}

func (im *image) shutDown(flags int) error {
	d, err := os.Open(im.dir)
	if errors.Is(err, unix.EIO) {
		return nil // it was quicker to find out that its disk is dead
	}
	if err != nil {
		return err
	}
	defer d.Close()
	err = unix.IoctlSetPointerInt(int(d.Fd()), iocShutdown, flags)
	if err != nil && !(im.disk != nil && errors.Is(err, unix.EIO)) {
		return &os.PathError{Op: "shut down", Path: im.dir, Err: err}
	}
	return nil
}

// reboot mounts the file system again, whose journal is replayed by that.
func (im *image) reboot() error {
	if err := im.unmount(); err != nil {
		return err
	}
	if im.disk != nil {
		if err := im.disk.revive(); err != nil {
			return err
		}
	}
	return im.mount()
}
