package snapcheck

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/filestore"
)

// childVar in the environment makes this binary a pipeline, which is to be killed.
const childVar = "RIGATONI_SNAPCHECK_CHILD"

func TestMain(m *testing.M) {
	if text := os.Getenv(childVar); text != "" {
		if err := child(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// A childConfig is what such a pipeline is given.
type childConfig struct {
	URI, Dir string
	N, Slow  int
	Source   changestream.Options

	Name, Snapshot             string
	SaveInterval, IdleInterval time.Duration
	MaxInFlightBytes           int
	MaxBatchEvents             int
	From                       bson.Timestamp
}

func child(text string) error {
	var c childConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	ctx := context.Background()
	src, err := changestream.Open(c.URI, &c.Source)
	if err != nil {
		return err
	}
	store, err := filestore.Open(filepath.Join(c.Dir, "state"), nil)
	if err != nil {
		return err
	}
	journal, err := OpenJournal(c.Dir, c.N)
	if err != nil {
		return err
	}
	journal.Slow = c.Slow
	return rigatoni.Run(ctx, rigatoni.Config{
		Name: c.Name, Source: src, Destination: journal, Store: store, Snapshot: c.Snapshot, SaveInterval: c.SaveInterval, IdleInterval: c.IdleInterval,
		MaxInFlightBytes: c.MaxInFlightBytes, MaxBatchEvents: c.MaxBatchEvents,
		FirstStart: rigatoni.FirstStart{Time: c.From},
		Logger:     slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
}

// processes are pipelines in processes of their own, which follow one another. Each but
// the last is killed.
type processes struct {
	trial  *trial
	kills  int
	within time.Duration // each is killed
	// saved, if it is not nil, is called with the checkpoint again and again, and reports
	// whether the n-th process is to be killed, instead of within.
	saved func(n int, cp state.Checkpoint) (kill bool)
	dir   string
	tail  tail
	rng   *rand.Rand
}

// run runs them until the last one is done.
func (p *processes) run(ctx context.Context, t *testing.T, done func(copied bool) bool) error {
	p.tail = tail{dir: p.dir, to: p.trial.lives.Recorder}
	store, err := filestore.Open(filepath.Join(p.dir, "state"), nil)
	if err != nil {
		return err
	}
	defer store.Close()
	for n := range p.kills + 1 {
		cmd, err := p.start(t, n)
		if err != nil {
			return err
		}
		exited := make(chan struct{})
		go func() {
			_ = cmd.Wait()
			close(exited)
		}()
		err = p.watch(ctx, n, exited, store, done)
		_ = cmd.Process.Kill()
		<-exited
		if err := errors.Join(err, p.tail.next()); err != nil {
			return fmt.Errorf("process %d: %w", n, err)
		}
	}
	return nil
}

func (p *processes) start(t *testing.T, n int) (*exec.Cmd, error) {
	cfg := p.trial.config
	text, err := json.Marshal(childConfig{
		URI: p.trial.server.URI, Dir: p.dir, N: n, Slow: p.trial.lives.Slow, Source: p.trial.source,
		Name: cfg.Name, Snapshot: cfg.Snapshot, SaveInterval: cfg.SaveInterval, IdleInterval: cfg.IdleInterval,
		MaxInFlightBytes: cfg.MaxInFlightBytes, MaxBatchEvents: cfg.MaxBatchEvents, From: cfg.FirstStart.Time,
	})
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVar+"="+string(text))
	cmd.Stderr = t.Output()
	return cmd, cmd.Start()
}

// watch waits until the n-th process is to be killed, or is done.
func (p *processes) watch(ctx context.Context, n int, exited <-chan struct{}, store state.Store, done func(copied bool) bool) error {
	kill := n < p.kills
	var end <-chan time.Time
	if kill && p.saved == nil {
		end = time.After(time.Duration(p.rng.Int64N(int64(p.within))))
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-end:
			return nil
		case <-exited:
			return errors.New("it ended by itself; its error is above")
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if err := p.tail.poll(); err != nil {
			return err
		}
		cp, err := store.Load(ctx, p.trial.config.Name)
		saved := err == nil
		if saved && p.saved != nil && p.saved(n, cp) && kill {
			return nil
		}
		if !kill && done(saved && cp.Extra[rigatoni.ExtraSnapshot] == nil) {
			return nil
		}
	}
}
