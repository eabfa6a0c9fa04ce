package filestore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/state"
)

// The test binary is also the process that gets killed.
const (
	childVar = "FILESTORE_TEST_CHILD" // what the child does
	childDir = "FILESTORE_TEST_DIR"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(childVar); what != "" {
		if err := child(what, os.Getenv(childDir)); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child is what the process does that gets killed.
func child(what, dir string) error {
	s, err := openQuietly(dir)
	if err != nil {
		return err
	}
	switch what {
	case "life":
		return lifeOfChild(s, os.Stdout)
	case "hold":
		g, err := s.Acquire(context.Background(), "k", request("the child"))
		if err != nil {
			return err
		}
		fmt.Println("acquired", g.Fence.Epoch, g.LastSequence)
		_, err = io.Copy(io.Discard, os.Stdin)
		return err
	}
	return fmt.Errorf("%s=%s", childVar, what)
}

type process struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
	stdin io.WriteCloser
}

func start(t *testing.T, what, dir string) *process {
	t.Helper()
	return startBinary(t, os.Args[0], what, dir)
}

// startBinary starts a test binary of this package as a child. More is for its
// environment.
func startBinary(t *testing.T, binary, what, dir string, more ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(binary)}
	p.cmd.Env = append(append(os.Environ(), childVar+"="+what, childDir+"="+dir), more...)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	must(t, err)
	p.stdin, err = p.cmd.StdinPipe()
	must(t, err)
	must(t, p.cmd.Start())
	p.lines = bufio.NewScanner(out)
	p.lines.Split(whole)
	t.Cleanup(func() { p.kill() })
	return p
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// Killed at any moment, also while files are made or grow, with another process in the
// same directory: nothing acknowledged is lost, nothing is torn, no epoch comes back, and
// every lease is free at once.
func TestKill(t *testing.T) {
	seed := campaign.Seed(t)
	for i, where := range []string{"disk", "memory"} {
		t.Run(where, func(t *testing.T) {
			dir := t.TempDir()
			if where == "memory" {
				dir = memoryDir(t)
			}
			dir = filepath.Join(dir, "state")
			kills := campaignLength(t, killsVar, 10_000, 1000, 2*time.Second)
			share := (kills.n + 4) / 5 // a flush of a disk takes its time
			if where == "memory" {
				share = kills.n - share
			}
			kills.n = share
			for j, prefix := range []string{"a/", "b/"} {
				t.Run(prefix[:1], func(t *testing.T) {
					t.Parallel()
					r := rand.New(rand.NewPCG(seed, uint64(2*i+j)))
					killAll(t, r, dir, prefix, kills.part(j, 2))
				})
			}
		})
	}
}

// memoryDir is a directory in memory, where there is such a thing: a kill takes nothing
// from what the system has been told, flushed or not.
func memoryDir(t *testing.T) string {
	t.Helper()
	const memory = "/dev/shm"
	if info, err := os.Stat(memory); err != nil || !info.IsDir() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "filestore-kill-")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

// killAll kills the processes that live in dir, with keys of their own, one after the
// other.
func killAll(t *testing.T, r *rand.Rand, dir, prefix string, n length) {
	l := newLedger()
	kills := 0
	for ; n.more(kills); kills++ {
		life := beginLife(t, os.Args[0], dir, l, life{Seed: r.Uint64(), Prefix: prefix, First: (kills + 1) * 100_000})
		life.killSoon(r)
		must(t, life.end())
		checkAfterKill(t, dir, prefix, l)
	}
	t.Logf("%d kills, %d calls acknowledged", kills, l.acked)
	if l.acked < 10*kills {
		t.Errorf("only %d calls were acknowledged", l.acked)
	}
}

func checkAfterKill(t *testing.T, dir, prefix string, l *ledger) {
	t.Helper()
	// The other process may be sweeping the same file just now, and be killed at it: so
	// it may take another opening until it is gone.
	for deadline := time.Now().Add(time.Minute); ; {
		s, err := openQuietly(dir)
		must(t, err)
		err = l.check(t, s, false)
		must(t, errors.Join(err, s.Close()))
		left, err := filepath.Glob(filepath.Join(dir, stem(prefix)+"*"+tempSuffix))
		must(t, err)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q are left", left)
		}
	}
}

// The lease of another process: refused while it lives, by name, and free as soon as
// it is dead. The dead one's fence is of no more use.
func TestLeaseDiesWithItsProcess(t *testing.T) {
	dir := t.TempDir()
	s, _ := openTest(t, dir)
	must(t, s.Save(t.Context(), "k", plain(t, 1)))
	p := start(t, "hold", dir)
	if !p.lines.Scan() || p.lines.Text() != "acquired 1 0" {
		t.Fatalf("the child says %q", p.lines.Text())
	}
	_, err := s.Acquire(t.Context(), "k", request("second"))
	want(t, err, state.ErrLeaseHeld, `"the child"`, fmt.Sprintf("process %d on ", p.cmd.Process.Pid))
	want(t, s.Save(t.Context(), "k", plain(t, 2)), state.ErrLeaseHeld, `"the child"`)
	for e, err := range s.List(t.Context(), "") {
		must(t, err)
		if e.Key != "k" || e.Owner != "the child" || e.LoadErr != nil {
			t.Errorf("listed: %+v", e)
		}
	}
	wantToken(t, s, "k", numbered(t, 1))
	p.kill()
	for e := range s.List(t.Context(), "") {
		if e.Owner != "" {
			t.Errorf("a dead owner is listed: %q", e.Owner)
		}
	}
	if g := acquire(t, s, "k", "second"); g.Fence.Epoch != 2 || g.Checkpoint.Token != numbered(t, 1).Token {
		t.Errorf("the grant has epoch %d, and sequence %d", g.Fence.Epoch, g.Checkpoint.Sequence)
	}
}

// Saves without a lease don't take one another's lock for a lease: not those of another
// process, and not after an owner that was killed has left its name in the lock file.
func TestPlainSavesOfManyProcesses(t *testing.T) {
	dir := t.TempDir()
	p := start(t, "hold", dir)
	p.lines.Scan()
	p.kill()
	s, _ := openTest(t, dir)
	must(t, s.Forget(t.Context(), "k"))
	must(t, os.WriteFile(s.lockPath("k"), []byte(`{"owner":"a dead one","pid":1}`), 0o600))
	save := func(s *Store, n int) error { return s.Save(t.Context(), "k", plain(t, n)) }
	other, _ := openTest(t, dir)
	rounds := 200
	if testing.Short() {
		rounds = 50
	}
	errs := make(chan error, 2)
	for _, s := range []*Store{s, other} {
		go func() {
			for n := range rounds {
				if err := save(s, n); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range 2 {
		must(t, <-errs)
	}
	wantToken(t, s, "k", numbered(t, rounds-1))
}
