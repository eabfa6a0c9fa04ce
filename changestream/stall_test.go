package changestream

import (
	"bytes"
	"context"
	"log/slog"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/testing/faultproxy"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// quick are limits for tests, in which the server is near.
func quick(l *limits) {
	l.margin, l.opening, l.unknown = 500*time.Millisecond, 10*time.Second, 2*time.Second
}

// through returns a source whose client reaches the server through a proxy.
func (w *fixture) through(o Options) (*Source, *faultproxy.Proxy) {
	w.t.Helper()
	u, err := url.Parse(w.URI)
	if err != nil {
		w.t.Fatal(err)
	}
	proxy := faultproxy.Start(w.t, u.Host, &faultproxy.Options{Raw: true})
	o.Database, o.Logger = w.DB.Name(), slog.New(slog.NewTextHandler(w.log, nil))
	src, err := Open("mongodb://"+proxy.Addr()+"/?directConnection=true", &o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		proxy.Close()
		src.Close(context.Background())
	})
	quick(&src.limits)
	return src, proxy
}

// A network swallows the connection of the getMore, and no other.
func TestStalledConnection(t *testing.T) {
	bothOwn(t, mongod.Options{}, func(t *testing.T, w *fixture) {
		src, proxy := w.through(Options{Collections: []string{"c"}, MaxAwait: 100 * time.Millisecond})
		st := w.open(src, "", rigatoni.Start{})
		w.insert("c", 0)
		wantNames(t, st.collect(1), inserted("c", 0)...)
		for i := 1; i <= 2; i++ {
			lost := vanishOnce(proxy, "getMore")
			st.until("a connection to vanish", func([]rigatoni.Event) bool { return lost.Load() })
			before, begin := proxy.Accepted(), time.Now()
			w.insert("c", i)
			wantNames(t, st.collect(1), inserted("c", i)...)
			if d := time.Since(begin); d > 20*time.Second {
				t.Errorf("the event came after %v", d)
			}
			st.until("the outage to end", func([]rigatoni.Event) bool { return w.log.count("is read again") == i })
			if got := w.log.count("level=WARN"); got != i {
				t.Errorf("%d warnings, want %d:\n%s", got, i, w.log)
			}
			t.Logf("%d connections before, %d after", before, proxy.Accepted())
		}
		if w.log.count("no reply within") != 2 || w.log.count("address="+proxy.Addr()) != 2 {
			t.Errorf("without cause and address:\n%s", w.log)
		}
		if w.Real != nil {
			if n := len(w.Cursors(t)); n > 2 { // the current one, and the last lost one while its getMore waits
				t.Errorf("%d cursors are left", n)
			}
		}
	})
}

// vanishOnce makes the next connection vanish on which the client says word.
func vanishOnce(p *faultproxy.Proxy, word string) *atomic.Bool {
	var done atomic.Bool
	p.VanishIf(func(_ int, data []byte) bool {
		return bytes.Contains(data, []byte(word)) && done.CompareAndSwap(false, true)
	})
	return &done
}

// All connections of the pool are dead, and only new ones work: a router has
// forgotten them. Those that nobody uses are found when the stream is reopened.
func TestAllConnectionsStall(t *testing.T) {
	bothOwn(t, mongod.Options{}, func(t *testing.T, w *fixture) {
		src, proxy := w.through(Options{Collections: []string{"c"}, MaxAwait: 100 * time.Millisecond})
		st := w.open(src, "", rigatoni.Start{})
		for range 4 { // connections in the pool
			done := make(chan error)
			go func() {
				done <- src.client.Database("admin").RunCommand(t.Context(), bson.D{{Key: "ping", Value: 1}}).Err()
			}()
			defer func() { <-done }()
		}
		st.until("a batch", func([]rigatoni.Event) bool { return true })
		old := proxy.Accepted()
		proxy.VanishIf(func(conn int, data []byte) bool {
			return conn < old && !bytes.Contains(data, []byte("topologyVersion")) // but not the driver's monitors
		})
		begin := time.Now()
		w.insert("c", 1)
		wantNames(t, st.collect(1), inserted("c", 1)...)
		t.Logf("the event came after %v", time.Since(begin))
		if proxy.Accepted() <= old {
			t.Error("no new connection")
		}
		if got := w.log.count("level=WARN"); got != 1 {
			t.Errorf("%d warnings:\n%s", got, w.log)
		}
	})
}

// The aggregate that reopens a stream may take much longer than a getMore.
func TestReopeningMayTakeLong(t *testing.T) {
	bothOwn(t, mongod.Options{}, func(t *testing.T, w *fixture) {
		src, proxy := w.through(Options{Collections: []string{"c"}, MaxAwait: 100 * time.Millisecond})
		src.limits.margin = 200 * time.Millisecond
		st := w.open(src, "", rigatoni.Start{})
		w.failPoint("failCommand", times(1), blockCommand("aggregate", 1500*time.Millisecond))
		lost := vanishOnce(proxy, "getMore")
		st.until("a connection to vanish", func([]rigatoni.Event) bool { return lost.Load() })
		w.insert("c", 1)
		wantNames(t, st.collect(1), inserted("c", 1)...)
		if got := w.log.count("level=WARN"); got != 1 {
			t.Errorf("%d warnings:\n%s", got, w.log)
		}
	})
}

// Replies that always take longer than the margin, as on a slow line, are waited for
// after a few attempts.
func TestSlowReplies(t *testing.T) {
	bothOwn(t, mongod.Options{}, func(t *testing.T, w *fixture) {
		src, _ := w.through(Options{Collections: []string{"c"}, MaxAwait: 100 * time.Millisecond})
		src.limits.margin = 300 * time.Millisecond
		st := w.open(src, "", rigatoni.Start{})
		w.failPoint("failCommand", "alwaysOn", blockCommand("getMore", 700*time.Millisecond))
		for i := range 6 {
			w.insert("c", i)
			wantNames(t, st.collect(1), inserted("c", i)...)
		}
		if got := w.log.count("level=WARN"); got > 2 {
			t.Errorf("%d warnings:\n%s", got, w.log)
		}
	})
}

func blockCommand(command string, d time.Duration) bson.D {
	return bson.D{
		{Key: "failCommands", Value: bson.A{command}},
		{Key: "blockConnection", Value: true}, {Key: "blockTimeMS", Value: d.Milliseconds()},
	}
}

// The driver waits for replies that don't come; Close doesn't.
func TestCloseIsBounded(t *testing.T) {
	both(t, func(t *testing.T, w *fixture) {
		src, proxy := w.through(Options{Collections: []string{"c"}})
		st := w.open(src, "", rigatoni.Start{})
		st.Next(t.Context())
		proxy.Swallow()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_ = st.Close(ctx)
		begin := time.Now()
		if err := src.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if d := time.Since(begin); d > 5*time.Second { // a second, and a busy machine
			t.Errorf("Close took %v", d)
		}
	})
}
