package filestore

import (
	"bufio"
	"errors"
	"fmt"
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
}

// An image is a file system in a file, mounted on a directory of its own.
type image struct {
	kind      fsKind
	file, dir string
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

// makeImage makes a file system and mounts it. If this machine can't, the test is
// skipped, and says why.
func makeImage(t *testing.T, base string, kind fsKind) *image {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("power cuts need root, to mount file systems and to shut them down")
	}
	for _, command := range []string{kind.mkfs[0], "mount"} {
		if _, err := exec.LookPath(command); err != nil {
			t.Skipf("power cuts need %s (Debian: apt-get install e2fsprogs xfsprogs mount)", command)
		}
	}
	name := strings.ReplaceAll(kind.name, " ", "-")
	im := &image{kind: kind, file: filepath.Join(base, name+".img"), dir: filepath.Join(base, name)}
	must(t, os.Mkdir(im.dir, 0o700))
	must(t, os.WriteFile(im.file, nil, 0o600))
	must(t, os.Truncate(im.file, imageSize))
	if out, err := exec.Command(kind.mkfs[0], append(kind.mkfs[1:], im.file)...).CombinedOutput(); err != nil {
		t.Skipf("power cuts on %s: %s can't make it: %s", kind.name, kind.mkfs[0], strings.TrimSpace(string(out)))
	}
	if err := im.mount(); err != nil {
		t.Skipf("power cuts on %s: it can't be mounted here: %v", kind.name, err)
	}
	return im
}

// remove unmounts the image and gives its memory back.
func (im *image) remove() error {
	return errors.Join(im.unmount(), os.Remove(im.file))
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
	const patience = 10 * time.Second
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

// cutPower shuts the file system down.
func (im *image) cutPower(flags int) error {
	d, err := os.Open(im.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.IoctlSetPointerInt(int(d.Fd()), iocShutdown, flags); err != nil {
		return &os.PathError{Op: "shut down", Path: im.dir, Err: err}
	}
	return nil
}

// reboot mounts the file system again, whose journal is replayed by that.
func (im *image) reboot() error {
	if err := im.unmount(); err != nil {
		return err
	}
	return im.mount()
}
