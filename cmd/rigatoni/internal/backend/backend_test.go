package backend

import (
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/destinations/ndjson"
	"github.com/rigatoni-etl/rigatoni/state"
)

func TestSettingsReachTheDestination(t *testing.T) {
	got := ndjsonOptions(config.Settings{Canonical: true, RotateSize: 5, RotateAge: time.Minute}, nil)
	if d := cmp.Diff(&ndjson.Options{Canonical: true, MaxFileBytes: 5, MaxFileAge: time.Minute}, got, cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
}

func TestStores(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for url, volatile := range map[string]bool{"memory:": true, "file:" + filepath.ToSlash(t.TempDir()): false} {
		s, err := OpenStore(t.Context(), url, log)
		if err != nil {
			t.Fatal(err)
		}
		if v, ok := state.As[state.Volatile](s); volatile != (ok && v.Volatile()) {
			t.Errorf("%s: volatile %v", url, !volatile)
		}
		if err := state.Close(s); err != nil {
			t.Error(err)
		}
	}
	for _, url := range []string{"redis://u:hunter2@h/x", "redis://u:hun%zzter2@h", "file:", "memory:x", "mysql://u:hunter2@h"} {
		s, err := OpenStore(t.Context(), url, log)
		if err == nil || s != nil {
			t.Errorf("%s: got %v, %v", url, s, err)
		} else if strings.Contains(err.Error(), "ter2") {
			t.Errorf("%s: the error has the password: %v", url, err)
		}
	}
}

func TestDestinationsThatAreNone(t *testing.T) {
	for _, to := range []string{"ndjson:", "ndjson:x?y=z", "kafka://h", "::"} {
		if d, err := OpenDestination(config.Settings{To: to}, io.Discard, nil); err == nil {
			t.Errorf("%s: got %v", to, d)
		}
	}
}
