package backend_test

import (
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/backend"
	"github.com/rigatoni-etl/rigatoni/internal/option"
	"github.com/rigatoni-etl/rigatoni/state"
)

var quiet = slog.New(slog.DiscardHandler)

func TestStores(t *testing.T) {
	for url, volatile := range map[string]bool{"memory:": true, "file:" + filepath.ToSlash(t.TempDir()): false} {
		s, err := backend.OpenStore(t.Context(), url, quiet)
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
		"redis://u:hun%zzter2@h", "redis://u:hun?ter2@h", "redis://h/0?hun;ter2", "file:", "memory:x", "mysql://u:hunter2@h", ""} {
		s, err := backend.OpenStore(t.Context(), url, quiet)
		if err == nil || s != nil {
			t.Errorf("%s: got %v, %v", url, s, err)
		} else if strings.Contains(err.Error(), "ter2") {
			t.Errorf("%s: the error has the password: %v", url, err)
		}
	}
}

// Every kind of Redis is tried at the hosts that the URL names, all of them.
func TestRedisOfSeveralHosts(t *testing.T) {
	for _, url := range []string{
		"redis+sentinel://u:hunter2@127.0.0.1:1,[::1]:2/mymaster/0?connect-timeout=1s&sentinel-password=hunter2",
		"redis+cluster://u:hunter2@[::1]:1,127.0.0.1:2?connect-timeout=1s",
		"rediss+cluster://127.0.0.1:1,127.0.0.1:2", "redis+unix:///nowhere.sock?db=1", "unix:///nowhere.sock",
	} {
		s, err := backend.OpenStore(t.Context(), url, quiet)
		if !errors.Is(err, state.ErrUnavailable) || s != nil {
			t.Errorf("%s: got %v, %v, want that nobody is there", url, s, err)
		}
		if err != nil && strings.Contains(err.Error(), "ter2") {
			t.Errorf("%s: the error has the password: %v", url, err)
		}
	}
}

func TestHostsOfAURL(t *testing.T) {
	for text, want := range map[string]string{
		"redis+cluster://u:p@a:1,b:2/?pool-size=3": "a:1,b:2", "redis://a:1/0": "a:1", "redis+sentinel://[::1]:1,[::2]:2/m": "[::1]:1,[::2]:2",
		"redis://a,b": "a,b", "redis://u:p,q@a:1": "a:1",
	} {
		var ref backend.Store
		if err := ref.UnmarshalText([]byte(text)); err != nil || ref.Ref.URL.Host != want {
			t.Errorf("%s: got %v, %v, want %s", text, ref.Ref.URL, err, want)
		}
	}
}

func TestDestinations(t *testing.T) {
	open := func(url string) error {
		var ref backend.Destination
		if err := ref.UnmarshalText([]byte(url)); err != nil {
			return err
		}
		if err := ref.Ref.Check(); err != nil {
			return err
		}
		_, err := ref.Open(t.Context(), io.Discard, nil)
		return err
	}
	for _, url := range []string{"ndjson:out", "ndjson:./out?max-file-bytes=off", "ndjson:/a%20b", "ndjson:-", "ndjson:-?format=canonical"} {
		if err := open(url); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, url := range []string{"ndjson:", "ndjson:x?y=z", "ndjson:x?max-file-bytes=0", "ndjson:-?max-file-age=1h", "ndjson://host/x", "kafka://h", "::", "out"} {
		if err := open(url); err == nil {
			t.Errorf("%s was taken", url)
		}
	}
}

// Each back end's declarations are complete: a placeholder, help that fits a line.
func TestDeclarations(t *testing.T) {
	for _, k := range append(append([]*backend.Kind{}, backend.Destinations...), backend.Stores...) {
		for _, o := range option.Of(k.Options()) {
			if o.Help == "" || len(o.Help) > 90 || strings.HasSuffix(o.Help, ".") || o.Group != "" {
				t.Errorf("%s: %s has the help %q, in the group %q", k.Name(), o.Name, o.Help, o.Group)
			}
		}
		for _, f := range k.Forms {
			if scheme, _, ok := strings.Cut(f[0], ":"); !ok || f[1] == "" || !strings.Contains(strings.Join(k.Schemes, " "), scheme) {
				t.Errorf("%s: the form %q", k.Name(), f)
			}
		}
	}
}
