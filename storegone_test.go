package rigatoni_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/stores/filestore"
)

// A directory that is gone takes the checkpoint with it: a stop must not look as if
// it had been saved, and the next start, in a directory that is new, must not be a
// first start. Where a copy was put in its place, the pipeline resumes from that.
func TestStateDirectoryGone(t *testing.T) {
	for name, c := range map[string]struct {
		afterwards func(dir string) error // after it was removed
		lost       bool
	}{
		"removed":             {func(string) error { return nil }, true},
		"removed and created": {func(dir string) error { return os.Mkdir(dir, 0o700) }, true},
		"replaced by a copy":  {func(dir string) error { return os.CopyFS(dir, os.DirFS(dir+".copy")) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			run := func(cfg rigatoni.Config, meanwhile func()) error {
				store, err := filestore.Open(dir, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer store.Close()
				cfg.Name, cfg.Store, cfg.SaveInterval, cfg.Logger = "shop", store, time.Hour, quiet
				p, err := rigatoni.New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				ended := make(chan error, 1)
				go func() { ended <- p.Run(ctx) }()
				if err := p.Wait(t.Context()); err != nil {
					return err
				}
				meanwhile()
				stop()
				return <-ended
			}
			source, dest := rigatonitest.NewSource(rigatonitest.Insert("shop.orders", map[string]int{"_id": 1})), &rigatonitest.Destination{}
			cfg := rigatoni.Config{Source: source, Destination: dest}
			err := run(cfg, func() {
				if _, err := dest.Wait(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(os.CopyFS(dir+".copy", os.DirFS(dir)), os.RemoveAll(dir), c.afterwards(dir)); err != nil {
					t.Fatal(err)
				}
			})
			if errors.Is(err, rigatoni.ErrUnsaved) != c.lost || errors.Is(err, rigatoni.ErrCheckpointLost) != c.lost {
				t.Fatalf("Run returned %v", err)
			}
			err = run(cfg, func() {})
			refused := new(rigatoni.FirstStartError)
			if !c.lost {
				if err != nil {
					t.Errorf("the next start, from a copy: %v", err)
				}
				return
			}
			if !errors.As(err, &refused) || !errors.Is(err, rigatoni.ErrCheckpointLost) || refused.Since().IsZero() {
				t.Fatalf("the next start: %v", err)
			}
			cfg.FirstStart = rigatoni.FirstStart{Time: refused.Since(), Accept: refused.Accept}
			if err := run(cfg, func() {}); err != nil {
				t.Errorf("the accepted start: %v", err)
			}
		})
	}
}
