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

// What people write in place of a URL is answered with what to write.
func TestHints(t *testing.T) {
	for text, want := range map[string]string{
		"memory":                 "",
		"mem:":                   "there is no store with this scheme; write memory",
		"./state":                "this is no URL; for a directory write file:PATH, such as file:./state",
		"/var/lib/rigatoni":      "this is no URL; for a directory write file:PATH, such as file:./state",
		"~/state":                "this is no URL; for a directory write file:PATH, such as file:./state",
		"state/shop":             "this is no URL; for a directory write file:PATH, such as file:./state",
		"file":                   "there is no store with this scheme; write file:./state",
		"file://state":           "what follows the // would be a host; for a directory write file:./DIR, or file:/DIR for an absolute one",
		"file:///~/state":        "the path has a ~ that is not at its beginning, where it would be the home directory; write the path in full",
		"file:%7Ex/state":        `the path begins with "~x", which is not replaced by a home directory; write the path in full, or ./~x for that name`,
		"file:./a#b":             "the URL has a #; in the name of a directory write it as %23",
		"file:./a%":              "the path has a % that begins no escape; write it as %25",
		"fiel:./state":           "there is no store with this scheme; did you mean file:?",
		"localhost:6379":         "this is no URL; for Redis write redis://localhost:6379",
		"10.0.0.1:6379/1":        "this is no URL; for Redis write redis://10.0.0.1:6379/1",
		"redis":                  "there is no store with this scheme; write redis://HOST:PORT",
		"redis:localhost:6379":   "the URL lacks the // before its host; write redis://localhost:6379",
		"redis:bob:hunter2@h":    "the URL lacks the // before its host; write redis://USER:PASSWORD@HOST:PORT/DB",
		"valkey://h:6379":        "there is no store with this scheme; write redis://HOST:PORT",
		"redis-sentinel://h/m":   "there is no store with this scheme; write redis+sentinel://HOST:PORT/MASTER",
		"valkey://u:hunter2@h":   "there is no store with this scheme; write redis://HOST:PORT",
		"mysql://u:hunter2@h":    "there is no store with this scheme; there are file:DIR, ",
		"bob:hunter2@10.0.0.1:6": "there is no store with this scheme; there are file:DIR, ",
	} {
		var s backend.Store
		err := s.UnmarshalText([]byte(text))
		if want == "" && err == nil {
			continue
		}
		if err == nil || want == "" || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s:\n got %v\nwant %s", text, err, want)
		}
	}
	for text, want := range map[string]string{
		"-": "write ndjson:-", "stdout": "write ndjson:-", "stdout:": "write ndjson:-", "/dev/stdout": "write ndjson:-", "ndjson": "write ndjson:./out",
		"file:./out": "write ndjson:./out", "out/": "for a directory write ndjson:PATH, such as ndjson:./out", "ndjson://out": "what follows the // would be a host",
		"nsjson:out": "did you mean ndjson:?", "ndjson:~x/": `begins with "~x"`,
	} {
		var d backend.Destination
		if err := d.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant %s", text, err, want)
		}
	}
}

// The errors of URLs and options that are not valid come without connecting.
func TestChecks(t *testing.T) {
	for url, want := range map[string]string{
		"redis://h:port": "this is no URL", "redis://u@h": "the URL has a user and no password", "redis://h/x": "must be the number of a database",
		"redis://h?tls-ca-file=x": "write rediss", "rediss://h?tls-ca-file=nowhere.pem": "nowhere.pem", "redis://a,b": "there are 2 addresses",
		"redis+sentinel://h": "does not name the master", "memory://x": `write "memory:"`,
		"mongodb://h/shop": "the URL doesn't name the collection; write mongodb://HOST/DATABASE.COLLECTION",
	} {
		var s backend.Store
		err := s.UnmarshalText([]byte(url))
		if err == nil {
			err = s.Ref.Check()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", url, err, want)
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
