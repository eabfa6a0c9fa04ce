package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/testbinary"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/stores/filestore"
)

// A loader inserts documents one after the other until it is stopped.
type loader struct {
	last int // the _id; to be read after stop
	stop func()
}

func startLoader(t *testing.T, server *testserver.Server) *loader {
	t.Helper()
	l := &loader{}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if _, err := server.DB.Collection("orders").InsertOne(ctx, bson.D{{Key: "_id", Value: l.last + 1}}); err == nil {
				l.last++
			}
		}
	})
	l.stop = func() { cancel(); wg.Wait() }
	t.Cleanup(l.stop)
	return l
}

// A checkpoint that is moved while the collection is written to: what is before the
// gap, and what is after it, is delivered, and nothing else is missing.
func TestSetUnderLoad(t *testing.T) {
	server := testserver.Mongod(t)
	dir := t.TempDir()
	flags := []string{"--source", server.URI, "--database", server.DB.Name(), "--collections", "orders", "--name", "shop", "--store", "file:" + filepath.Join(dir, "state")}
	run := func() *child {
		c := startChild(t, nil, append([]string{"run", "--to", "ndjson:" + filepath.Join(dir, "out")}, flags...)...)
		c.await("msg=ready")
		return c
	}
	set := func(want int, args ...string) string {
		cmd := exec.Command(testbinary.Path(t), append(append([]string{"checkpoint", "set", "--execute"}, args...), flags...)...)
		out, _ := cmd.CombinedOutput() // the code says it
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Fatalf("set %v: exit code %d, want %d:\n%s", args, got, want, out)
		}
		return string(out)
	}
	first := run()
	load := startLoader(t, server)
	awaitOutput(t, dir, 1)
	set(exitHeld, "--to-now")
	set(exitHeld, "--by", "-1h")
	first.signal(syscall.SIGINT)
	if code := first.exit(); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	set(exitOK, "--by", "-2s")
	if out := set(exitOK, "--to-now"); !strings.Contains(out, "SKIPPED") {
		t.Errorf("%s", out)
	}
	second := run()
	set(exitHeld, "--to-now")
	load.stop()
	awaitOutput(t, dir, load.last)
	second.signal(syscall.SIGINT)
	if code := second.exit(); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	checkGap(t, server, dir, load.last)
}

// checkGap checks that every document that is not in the output was inserted in the
// gap on record.
func checkGap(t *testing.T, server *testserver.Server, dir string, last int) {
	t.Helper()
	store, err := filestore.Open(filepath.Join(dir, "state"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	cp, err := store.Load(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	gaps, err := rigatoni.Gaps(cp)
	if err != nil || len(gaps) != 1 {
		t.Fatalf("%+v, %v", gaps, err)
	}
	out := outputOf(t, dir)
	times := insertTimes(t, server)
	missing := 0
	for id := 1; id <= last; id++ {
		switch at := times[id]; {
		case out[id]:
		case at.Before(gaps[0].From) || at.After(gaps[0].To):
			t.Errorf("document %d of %v is neither in the output nor in the gap from %v to %v", id, at, gaps[0].From, gaps[0].To)
		default:
			missing++
		}
	}
	t.Logf("%d documents, %d of them in the gap", last, missing)
}

// insertTimes are the cluster times of the inserts, by _id.
func insertTimes(t *testing.T, server *testserver.Server) map[int]bson.Timestamp {
	t.Helper()
	oplog := server.Client.Database("local").Collection("oplog.rs")
	cursor, err := oplog.Find(t.Context(), bson.D{{Key: "op", Value: "i"}, {Key: "ns", Value: server.DB.Name() + ".orders"}})
	if err != nil {
		t.Fatal(err)
	}
	var entries []struct {
		TS bson.Timestamp `bson:"ts"`
		O  struct {
			ID int `bson:"_id"`
		} `bson:"o"`
	}
	if err := cursor.All(t.Context(), &entries); err != nil {
		t.Fatal(err)
	}
	times := map[int]bson.Timestamp{}
	for _, e := range entries {
		times[e.O.ID] = e.TS
	}
	return times
}

func outputOf(t *testing.T, dir string) map[int]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "out", "*.ndjson*"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[int]bool{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // it got its final name just now, and is read the next time
		}
		for line := range strings.Lines(string(text)) {
			var ev struct {
				DocumentKey struct {
					ID int `bson:"_id"`
				} `bson:"documentKey"`
			}
			if strings.HasSuffix(line, "\n") && bson.UnmarshalExtJSON([]byte(line), false, &ev) == nil {
				found[ev.DocumentKey.ID] = true
			}
		}
	}
	return found
}

// awaitOutput waits until a document is in the output.
func awaitOutput(t *testing.T, dir string, id int) {
	t.Helper()
	for end := time.Now().Add(deadline); !outputOf(t, dir)[id]; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("document %d has not arrived", id)
		}
	}
}
