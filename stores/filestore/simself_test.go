package filestore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
)

// The same seed gives the same history, or a finding couldn't be looked at.
func TestSimulationRepeats(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	seed := campaign.Seed(t)
	for n := range uint64(4) {
		var logs [2]string
		for i := range logs {
			synctest.Test(t, func(t *testing.T) {
				h := newHistory(t, seed+n, 5)
				h.live(3, 10)
				logs[i] = fmt.Sprint(h.cuts, h.n, h.m.r.Uint64(), strings.Join(h.log, "\n"))
			})
		}
		strip := regexp.MustCompile(`[.][0-9a-f]{8,16}\b`)
		if a, b := strip.ReplaceAllString(logs[0], ""), strip.ReplaceAllString(logs[1], ""); a != b {
			t.Errorf("seed %d: %s\n\n%s", seed+n, a, b)
		}
	}
}

// The disk fails as Linux does: who had the file open hears of it once, whoever opens it
// later doesn't, and what was lost is in the page cache still.
func TestSimulatedFailure(t *testing.T) {
	m := newSimFS(rand.New(rand.NewPCG(1, 1)))
	must(t, m.Mkdir(simStore))
	open := func() file {
		f, err := m.Open(simStore+"/f", os.O_RDWR|os.O_CREATE)
		must(t, err)
		return f
	}
	a, b := open(), open()
	syncer, err := m.OpenSyncer(simStore)
	must(t, err)
	must(t, errors.Join(a.Sync(), m.SyncDir(simStore), m.SyncDir(simHome)))
	lost := 0
	for n := range 100 {
		text := []byte(fmt.Sprintf("%03d", n))
		_, err := a.WriteAt(text, 0)
		must(t, err)
		m.before = func(string, string, bool) syscall.Errno { return syscall.EIO }
		want(t, a.Datasync(), syscall.EIO, "fdatasync")
		m.before = nil
		c := open()
		must(t, errors.Join(a.Datasync(), c.Datasync(), c.Close()))
		want(t, b.Datasync(), syscall.EIO)
		must(t, b.Datasync())
		want(t, syncer.SyncFS(), syscall.EIO)
		must(t, syncer.SyncFS())
		got := make([]byte, 3)
		if _, err := a.ReadAt(got, 0); err != nil || string(got) != string(text) {
			t.Fatalf("the page cache has %q (%v)", got, err)
		}
		if string(m.cut(m.r).dir.now["f"].now) != string(text) {
			lost++
		}
	}
	if lost < 20 || lost > 99 {
		t.Errorf("of 100 failed flushes, %d lost what was to be flushed", lost)
	}
	// Of a failure that nobody has heard of, the next to open the file hears.
	_, err = a.WriteAt([]byte("x"), 0)
	must(t, err)
	for m.dir.now["f"].isDirty() {
		m.spoil()
	}
	want(t, open().Sync(), syscall.EIO)
}
