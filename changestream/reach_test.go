package changestream

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/faultproxy"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// A server that is away at the start is named soon, once for all streams, and what the
// driver knows about its topology stays out of every message.
func TestUnreachableAtTheStart(t *testing.T) {
	for name, c := range map[string]struct{ uri, want string }{
		"refused":  {"mongodb://127.0.0.1:1/?replicaSet=rs0", "connection refused"},
		"several":  {"mongodb://127.0.0.1:1,127.0.0.1:2/?replicaSet=rs0", "connection refused"},
		"no name":  {"mongodb://nowhere.invalid:27017/?replicaSet=rs0", "nowhere.invalid can't be resolved"},
		"password": {"mongodb://me:geheim@127.0.0.1:1/", "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log logBuffer
			src, err := Open(c.uri+map[bool]string{true: "&", false: "?"}[strings.Contains(c.uri, "?")]+"serverSelectionTimeoutMS=4000", &Options{
				Database: "shop", Collections: []string{"a", "b"}, OneEach: true, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			})
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close(context.Background())
			failed := make(chan error, 2)
			begin := time.Now()
			for _, name := range src.Streams() {
				go func() {
					_, err := src.Open(t.Context(), name, rigatoni.Start{})
					failed <- err
				}()
			}
			log.await(t, "server unreachable", begin.Add(30*time.Second))
			for range 2 {
				err := <-failed
				if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v", err)
				}
				if strings.Contains(err.Error(), "topology") || strings.Contains(err.Error(), "geheim") || len(err.Error()) > 200 {
					t.Errorf("too much is in %v", err)
				}
			}
			if !strings.Contains(log.String(), c.want) || log.count("level=WARN") != 1 || log.count("topology") > 0 {
				t.Errorf("the log:\n%s", &log)
			}
		})
	}
}

// await waits until text is in the log.
func (b *logBuffer) await(t *testing.T, text string, deadline time.Time) {
	t.Helper()
	for b.count(text) == 0 {
		if time.Now().After(deadline) {
			t.Fatalf("%q was not logged in time:\n%s", text, b)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A server that comes late is waited for, with one line when it is there.
func TestServerComesLate(t *testing.T) {
	w := ownMongod(t, mongod.Options{})
	if err := w.Real.Kill(); err != nil {
		t.Fatal(err)
	}
	src, err := Open(w.URI, &Options{Database: "shop", Logger: slog.New(slog.NewTextHandler(w.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close(context.Background())
	src.limits.named = 300 * time.Millisecond
	opened := make(chan error, 1)
	go func() {
		st, err := src.Open(t.Context(), "", rigatoni.Start{})
		if err == nil {
			err = st.Close(t.Context())
		}
		opened <- err
	}()
	w.log.await(t, "server unreachable", time.Now().Add(patience))
	if err := w.Real.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	if w.log.count("server unreachable") != 1 || w.log.count("server reached") != 1 {
		t.Errorf("the log:\n%s", w.log)
	}
}

// An outage is logged at its first failed call, with its cause and the server's
// address, and at its end with its length; by a client of the user's, which reports no
// calls, a little later.
func TestOutageIsNamedAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		within time.Duration
		source func(*fixture) *Source
	}{
		"own client": {time.Second, func(w *fixture) *Source {
			src, err := Open(w.URI, &Options{Database: "shop", Logger: slog.New(slog.NewTextHandler(w.log, nil))})
			if err != nil {
				w.t.Fatal(err)
			}
			w.t.Cleanup(func() { src.Close(context.Background()) })
			return src
		}},
		"user's client": {6 * time.Second, func(w *fixture) *Source { return w.source(Options{}) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := ownMongod(t, mongod.Options{})
			st := w.open(c.source(w), "", rigatoni.Start{})
			w.insert("c", 1)
			st.collect(1)
			begin := time.Now()
			time.AfterFunc(1500*time.Millisecond, func() { // in the middle of a getMore
				if err := w.Real.Kill(); err != nil {
					t.Error(err)
				}
			})
			st.until("a warning", func([]rigatoni.Event) bool { return w.log.count("level=WARN") > 0 })
			if d := time.Since(begin); d > 1500*time.Millisecond+c.within+5*time.Second { // a busy machine
				t.Errorf("the outage was logged after %v", d)
			}
			if w.log.count("address="+w.Real.Nodes()[0].Addr()) != 1 || w.log.count("topology") > 0 {
				t.Errorf("the log:\n%s", w.log)
			}
			if err := w.Real.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			st.until("its end", func([]rigatoni.Event) bool { return w.log.count("is read again") > 0 })
			if w.log.count("level=WARN") != 1 || w.log.count("is read again") != 1 {
				t.Errorf("the log:\n%s", w.log)
			}
			t.Logf("%s", w.log)
		})
	}
}

// A user with a wrong password is refused at once, and a server that speaks no
// MongoDB is named as that.
func TestSomethingElseListens(t *testing.T) {
	proxy := faultproxy.Start(t, "127.0.0.1:1", &faultproxy.Options{Raw: true}) // it hangs up at the first word
	var log logBuffer
	src, err := Open("mongodb://"+proxy.Addr()+"/?serverSelectionTimeoutMS=1000", &Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close(context.Background())
	_, err = src.Open(t.Context(), "", rigatoni.Start{})
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "it closed the connection") {
		t.Error(err)
	}
}
