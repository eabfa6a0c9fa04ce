package mongoclient_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni/internal/mongoclient"
	"github.com/rigatoni-etl/rigatoni/mongotest"
)

// A client finds its server at once, and disconnects at once, also if the next check of
// the server is far away. With a client that doesn't poll, one in a thousand doesn't.
func TestConnect(t *testing.T) {
	server := mongotest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for n := range 1000 {
		c, err := mongoclient.Connect(options.Client().ApplyURI(server.URI()).SetHeartbeatInterval(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Database("admin").RunCommand(ctx, bson.D{{Key: "ping", Value: 1}}).Err(); err != nil {
			t.Fatalf("client %d: %v", n, err)
		}
		if err := c.Disconnect(ctx); err != nil {
			t.Fatalf("client %d: Disconnect: %v", n, err)
		}
	}
}

// No request is left waiting at a server, unless the options ask for it.
func TestPolls(t *testing.T) {
	server := mongotest.Start(t)
	for _, waits := range []bool{false, true} {
		checks := make(chan bool, 100)
		var n atomic.Int32
		co := options.Client().ApplyURI(server.URI()).SetHeartbeatInterval(500 * time.Millisecond)
		if waits {
			co.SetServerMonitoringMode(options.ServerMonitoringModeStream)
		}
		co.SetServerMonitor(&event.ServerMonitor{ServerHeartbeatStarted: func(e *event.ServerHeartbeatStartedEvent) {
			if n.Add(1) <= 3 {
				checks <- e.Awaited
			}
		}})
		c, err := mongoclient.Connect(co)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Disconnect(context.Background()) })
		if got := []bool{<-checks, <-checks, <-checks}; slices.Contains(got, true) != waits {
			t.Errorf("of the first checks these wait at the server: %v", got)
		}
	}
}

// Nothing that users run connects in another way; examples and tests do as users do.
func TestEveryClient(t *testing.T) {
	root := filepath.Join("..", "..")
	found := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		rel := filepath.ToSlash(strings.TrimPrefix(path, root+string(filepath.Separator)))
		switch {
		case err != nil:
			return err
		case d.IsDir() && (rel == "examples" || rel == "internal/tools"):
			return fs.SkipDir
		case filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			code, _, _ := strings.Cut(line, "//")
			if strings.Contains(code, "mongoclient.Connect(") {
				found++
			}
			if strings.Contains(code, "mongo.Connect(") && rel != "internal/mongoclient/mongoclient.go" {
				t.Errorf("%s: %suse mongoclient.Connect, whose clients don't stall for ten seconds", rel, line)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 5 {
		t.Errorf("the test sees only %d clients", found)
	}
}
