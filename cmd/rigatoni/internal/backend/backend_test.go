package backend

import (
	"errors"
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
	for _, url := range []string{"redis://u:hunter2@h/x", "redis+sentinel://u:hunter2@a:1,b:2", "redis+cluster://u:hunter2@a:1,b:2/1", "unix://u:hunter2@h/x",
		"rediss+sentinel://a:1,b:2/m?sentinel-username=hunter2", "redis://u:hun%zzter2@h", "file:", "memory:x", "mysql://u:hunter2@h"} {
		s, err := OpenStore(t.Context(), url, log)
		if err == nil || s != nil {
			t.Errorf("%s: got %v, %v", url, s, err)
		} else if strings.Contains(err.Error(), "ter2") {
			t.Errorf("%s: the error has the password: %v", url, err)
		}
	}
}

// Every kind of Redis is tried at the hosts that the URL names, all of them.
func TestRedisOfSeveralHosts(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for _, url := range []string{
		"redis+sentinel://u:hunter2@127.0.0.1:1,[::1]:2/mymaster/0?connect-timeout=1s&sentinel-password=hunter2",
		"redis+cluster://u:hunter2@[::1]:1,127.0.0.1:2?connect-timeout=1s",
		"rediss+cluster://127.0.0.1:1,127.0.0.1:2", "redis+unix:///nowhere.sock?db=1", "unix:///nowhere.sock",
	} {
		if err := config.Check("store", url); err != nil {
			t.Errorf("%s: the configuration refuses it: %v", url, err)
		}
		s, err := OpenStore(t.Context(), url, log)
		if !errors.Is(err, state.ErrUnavailable) || s != nil {
			t.Errorf("%s: got %v, %v, want that nobody is there", url, s, err)
		}
		if err != nil && strings.Contains(err.Error(), "ter2") {
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
