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
	"strconv"
	"strings"
	"testing"
	"time"

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

// child prints a line for every save that was acknowledged, until it is killed.
func child(what, dir string) error {
	ctx := context.Background()
	s, err := Open(dir, nil)
	if err != nil {
		return err
	}
	t := new(testing.T)
	save := func(n int) error { return s.Save(ctx, "k", placeOf(t, n, n%97*90)) }
	if what != "plain" {
		g, err := s.Acquire(ctx, "k", request("the child"))
		if err != nil {
			return err
		}
		fmt.Println("acquired", g.Fence.Epoch, g.LastSequence)
		save = func(n int) error { return s.SaveFenced(ctx, "k", g.Fence, placeOf(t, n, n%97*90)) }
	}
	if what == "hold" {
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}
	start := 0
	switch cp, err := s.Load(ctx, "k"); {
	case err == nil:
		start = int(cp.Sequence)
	case !errors.Is(err, state.ErrNotFound):
		return err
	}
	for n := start + 1; ; n++ {
		if err := save(n); err != nil {
			return err
		}
		fmt.Println("saved", n)
	}
}

type process struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
	stdin io.WriteCloser
}

func start(t *testing.T, what, dir string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), childVar+"="+what, childDir+"="+dir)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	must(t, err)
	p.stdin, err = p.cmd.StdinPipe()
	must(t, err)
	must(t, p.cmd.Start())
	p.lines = bufio.NewScanner(out)
	t.Cleanup(func() { p.kill() })
	return p
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// Killed at any moment, also while the file is made or grows: nothing acknowledged is
// lost, nothing is torn, and the lease is free at once.
func TestKill(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	rounds := 40
	if testing.Short() {
		rounds = 10
	}
	for _, what := range []string{"leased", "plain"} {
		t.Run(what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			acknowledged, epoch := 0, uint64(0)
			for round := range rounds {
				acknowledged = killOnce(t, what, dir, r, acknowledged)
				s, _ := openTest(t, dir)
				switch cp, err := s.Load(t.Context(), "k"); {
				case acknowledged == 0 && errors.Is(err, state.ErrNotFound):
				case err != nil:
					t.Fatalf("round %d: %v", round, err)
				case int(cp.Sequence) < acknowledged || int(cp.Sequence) > acknowledged+1:
					t.Fatalf("round %d: sequence %d was acknowledged, and there is %d", round, acknowledged, cp.Sequence)
				default:
					acknowledged = int(cp.Sequence)
				}
				if what == "leased" {
					g := acquire(t, s, "k", "the next")
					if g.Fence.Epoch <= epoch {
						t.Fatalf("round %d: epoch %d after %d", round, g.Fence.Epoch, epoch)
					}
					epoch = g.Fence.Epoch
				}
				must(t, s.Close())
			}
			if acknowledged < rounds {
				t.Errorf("only %d saves in %d rounds", acknowledged, rounds)
			}
			t.Logf("%d kills, %d saves", rounds, acknowledged)
			if left, _ := filepath.Glob(filepath.Join(dir, "*"+tempSuffix)); len(left) > 0 {
				t.Errorf("%q are left", left)
			}
		})
	}
}

// killOnce lets a child save until a random moment, and says what it acknowledged last.
func killOnce(t *testing.T, what, dir string, r *rand.Rand, acknowledged int) int {
	p := start(t, what, dir)
	killer := time.AfterFunc(time.Duration(r.IntN(60))*time.Millisecond, func() { p.cmd.Process.Kill() })
	defer killer.Stop()
	for p.lines.Scan() {
		line := p.lines.Text()
		if n, ok := strings.CutPrefix(line, "saved "); ok {
			var err error
			acknowledged, err = strconv.Atoi(n)
			must(t, err)
		} else if strings.HasPrefix(line, "error") {
			t.Errorf("the child: %s", line)
		}
	}
	p.cmd.Wait()
	return acknowledged
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
		if e.Key != "k" || e.Owner != "the child" || e.Err != nil {
			t.Errorf("listed: %+v", e)
		}
	}
	wantToken(t, s, "k", place(t, 1))
	p.kill()
	for e := range s.List(t.Context(), "") {
		if e.Owner != "" {
			t.Errorf("a dead owner is listed: %q", e.Owner)
		}
	}
	if g := acquire(t, s, "k", "second"); g.Fence.Epoch != 2 || g.Checkpoint.Token != place(t, 1).Token {
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
	wantToken(t, s, "k", place(t, rounds-1))
}
