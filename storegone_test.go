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
// it had been saved.
func TestStateDirectoryGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	store, err := filestore.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	source, dest := rigatonitest.NewSource(rigatonitest.Insert("shop.orders", map[string]int{"_id": 1})), &rigatonitest.Destination{}
	p, err := rigatoni.New(rigatoni.Config{Name: "shop", Source: source, Destination: dest, Store: store, SaveInterval: time.Hour, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	if _, err := dest.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ended; !errors.Is(err, rigatoni.ErrUnsaved) {
		t.Errorf("Run returned %v", err)
	}
}
