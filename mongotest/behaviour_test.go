package mongotest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

var recording = flag.Bool("record", false, "write what the real server answers to testdata/behaviour")

// TestBehaviour runs every script on mongotest and, if there is one, on a real
// server. The replies of both must be those in testdata/behaviour, word for
// word, which a real 6.0.27 wrote (with -record).
func TestBehaviour(t *testing.T) {
	t.Run("mongotest", func(t *testing.T) {
		s := Start(t)
		for name, run := range behaviours {
			t.Run(name, func(t *testing.T) {
				play(t, name, s.URI(), "t_"+strings.ReplaceAll(name, " ", "_"), s, run)
			})
		}
	})
	t.Run("mongod", func(t *testing.T) {
		mongod.ForTest(t) // skips where there is none
		for name, run := range behaviours {
			t.Run(name, func(t *testing.T) {
				if strings.HasPrefix(name, "split") { // it fills an oplog
					play(t, name, mongod.OwnForTest(t, mongod.Options{}).URI(), "t_split", nil, run)
					return
				}
				db := mongod.ForTest(t)
				play(t, name, db.URI, db.Name, nil, run)
			})
		}
	})
}

func play(t *testing.T, name, uri, db string, server *Server, run func(*script)) {
	file := filepath.Join("testdata", "behaviour", strings.ReplaceAll(name, " ", "-")+".txt")
	idle := noops(server)
	got := perform(t, uri, db, server, run)
	if *recording && server == nil {
		for n, again := 2, ""; again != got && n < 10; n++ {
			// A real server sometimes writes a no-op, which advances marks.
			again, got = got, perform(t, uri, fmt.Sprint(db, "_", n), nil, run)
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for n := 2; got != string(want) && (server == nil || noops(server) > idle) && n < 5; n++ {
		idle = noops(server)
		got = perform(t, uri, fmt.Sprint(db, "_", n), server, run) // that no-op, perhaps
	}
	compareTranscripts(t, file, got, string(want))
}

// noops returns the number of no-ops that mongotest has written to its oplog.
func noops(s *Server) (n int) {
	if s == nil {
		return 0
	}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	for _, e := range s.store.oplog.entries {
		if e.kind == opNoop {
			n++
		}
	}
	return n
}

func perform(t *testing.T, uri, db string, server *Server, run func(*script)) string {
	s := &script{t: t, client: dial(t, uri), server: server, db: db, values: map[string]bson.RawValue{}, cursors: map[string]int64{}, hits: map[string]int64{}}
	run(s)
	return s.out.String()
}

// compareTranscripts reports each reply that differs, with its command.
func compareTranscripts(t *testing.T, file, got, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	command := ""
	for i := range max(len(g), len(w)) {
		var a, b string
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if strings.HasPrefix(b, ">") {
			command = b
		}
		if a != b {
			t.Errorf("%s:%d\n%s\n got %s\nwant %s", file, i+1, command, a, b)
		}
	}
}
