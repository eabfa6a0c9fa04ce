package snapcheck

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
)

// A mutant is the copy with a mistake made on purpose.
type mutant struct {
	edits []edit
	test  string // that must find it
	found []Kind // what it must say, one of them
	short bool   // tried in the short form too
	// unit: the test is one of package changestream, because a random load hits the moment
	// too rarely.
	unit bool
}

// An edit replaces something that is once in a file of package changestream.
type edit struct{ file, old, new string }

// mutants are the mistakes by which a copy loses or reorders something. Each was seen to
// do so on a real server.
var mutants = map[string]mutant{
	"a chunk is delivered before the stream has reached its time": {
		edits: []edit{{"snapshotpoint.go", "\treturn tick(t, -1), t.After(p.last)\n", "\treturn t, t.After(p.last)\n"}},
		test:  "TestCopyIntoTransactions", found: []Kind{Disorder, Torn},
	},
	"changes of what is not copied yet are delivered too": {
		edits: []edit{{"snapshotevents.go", "\treturn c.unordered || c.copied(id)\n", "\treturn true || c.unordered || c.copied(id)\n"}},
		test:  "TestCopyIntoTransactions", found: []Kind{Early}, short: true,
	},
	"changes of what is copied are dropped near the time of the copy": {
		edits: []edit{{"snapshot.go", "\t\tkeep := c.state.delivers(", "\t\tkeep := (i > 0 || ev.DocumentKey() == nil) && c.state.delivers("}},
		test:  "TestCopyIntoTransactions", found: []Kind{Missing, Left},
	},
	"$gte instead of min": {
		edits: []edit{{
			"snapshotread.go", `{Key: "min", Value: bson.D{{Key: "_id", Value: lower}}}`,
			`{Key: "filter", Value: bson.D{{Key: "_id", Value: bson.D{{Key: "$gte", Value: lower}}}}}`,
		}},
		test: "TestPitfall01AllTypesOfIDs", found: []Kind{Missing}, short: true,
	},
	"the cursor is saved before the chunk is delivered": {
		edits: []edit{{"snapshotposition.go", "p.before.advance(p.ns, p.rng, key, false, 0, 0)", "p.before.advance(p.ns, p.rng, key, true, 0, 0)"}},
		test:  "TestCopyIntoTransactions", found: []Kind{Missing, Early},
	},
	"majority reads instead of snapshot reads": {
		edits: []edit{
			{"snapshotread.go", `bson.D{{Key: "level", Value: "snapshot"}, {Key: "atClusterTime", Value: r.at}}`, `bson.D{{Key: "level", Value: "majority"}}`},
			{"snapshotread.go", `cursor.LookupErr("atClusterTime")`, `cursor.LookupErr("firstBatch")`},
		},
		test: "TestCopyIntoTransactions", found: []Kind{Torn},
	},
	"no find for MaxKey": {
		edits: []edit{{"snapshotread.go", "\tif c.ended && r.rng.Upper == nil && ", "\tif false && c.ended && r.rng.Upper == nil && "}},
		test:  "TestPitfall01AllTypesOfIDs", found: []Kind{Missing},
	},
	"a rename is ignored": {
		edits: []edit{{"snapshotevents.go", "\t\treturn s.renamed(ev, sc)\n", "\t\treturn s\n"}},
		test:  "TestPitfall15CollectionsThatComeAndGo", found: []Kind{Missing},
	},
	"the target of a rename counts as copied": {
		edits: []edit{{"snapshotevents.go", "\t\treturn s.forget(to).move(from, to, sc)\n", "\t\treturn s.forget(to).forget(from)\n"}},
		test:  "TestPitfall15CollectionsThatComeAndGo", found: []Kind{Missing},
	},
	"a high-water mark T is taken for all of T": {
		edits: []edit{{"snapshotpoint.go", "\tif d.HighWaterMark {\n", "\tif false {\n"}},
		test:  "TestCopyOfTinyCollections", found: []Kind{Disorder, Torn},
	},
	"an event inside a transaction is taken for its end": {
		edits: []edit{{
			"snapshotpoint.go", "\treturn tick(t, -1), t.After(p.last)\n",
			"\tif t == p.last {\n\t\treturn t, true\n\t}\n\treturn tick(t, -1), t.After(p.last)\n",
		}},
		test: "TestSafePointBeforeAnEvent", unit: true,
	},
	"a reply without a time is taken for the end": {
		edits: []edit{{"snapshotread.go", "\t\treturn chunkReply{}, errNotThere // a coll", "\t\t_ = errNotThere // a coll"}},
		test:  "TestCopyWhileCollectionsAreRenamed", found: []Kind{Missing},
	},
	"singleBatch": {
		edits: []edit{{"snapshotread.go", `bson.E{Key: "batchSize", Value: limit})`, `bson.E{Key: "batchSize", Value: limit}, bson.E{Key: "singleBatch", Value: true})`}},
		test:  "TestPitfall12ChunksAreBoundedInBytes", found: []Kind{Missing},
	},
	"the collections are listed before the stream is opened": {
		edits: []edit{
			{"snapshotopen.go", "\t\tnames, listed, err = o.lists.exact(ctx, o.scope, tick(st.at.ClusterTime, -1))\n", "\t\tnames, listed, err = o.lists.exact(ctx, o.scope, tick(st.at.ClusterTime, -1))\n\t\tnames = listedEarly\n"},
			{"snapshotopen.go", "lists: newLister(s)}\n", "lists: newLister(s)}\n\tlistedEarly, _, _ = o.lists.exact(ctx, sc, bson.Timestamp{})\n\ttime.Sleep(100 * time.Millisecond)\n"},
			{"snapshotopen.go", "// copyAwait is how", "var listedEarly []rigatoni.Namespace\n\n// copyAwait is how"},
		},
		test: "TestCopyOfCollectionsThatAreCreated", found: []Kind{Missing},
	},
	"the lower part of a range that is divided is lost": {
		edits: []edit{{"snapshotdivide.go", "Upper: upper})\n\t}\n\treturn ranges\n", "Upper: upper})\n\t}\n\treturn ranges[len(ranges)-1:]\n"}},
		test:  "TestCopyIntoTransactions", found: []Kind{Missing, Early}, short: true,
	},
	"the lower part of a range that is divided goes on to the end": {
		edits: []edit{{"snapshotdivide.go", "\t\tlast.Upper = keys[bound]\n", ""}},
		test:  "TestCopyIntoTransactions", found: []Kind{Twice, Disorder},
	},
	"a range is divided while it is read": {
		edits: []edit{{"snapshotdraw.go", "\tif got := d.ready; got != nil && idle && !isRead(got.ns) {\n", "\tif got := d.ready; got != nil && idle {\n"}},
		test:  "TestCopyIntoTransactions", found: []Kind{Twice, Disorder},
	},
	"deletes of what is not copied yet are dropped after a crash": {
		edits: []edit{{"snapshotevents.go", "\tif resumed && ev.OperationType() == \"delete\" {\n", "\tif false && ev.OperationType() == \"delete\" {\n"}},
		test:  "TestCopyIntoFunction", found: []Kind{Left, Missing},
	},
}

// TestMutants: a checker that finds nothing proves something only if it finds what is
// there. The short form tries two.
func TestMutants(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(mutants)) {
		m := mutants[name]
		if !m.short && !campaign.Full(t) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			parallel(t)
			said := m.try(t, m.build(t))
			if m.unit && strings.Contains(said, "--- FAIL: "+m.test) {
				return
			}
			for _, k := range m.found {
				if regexp.MustCompile(fmt.Sprintf(`(?m)\d+ %s:$`, k)).MatchString(said) {
					t.Logf("found: %s", k)
					return
				}
			}
			t.Errorf("it was not found, as %q; the last thing said:\n%s", m.found, said)
		})
	}
}

// try runs the test until it fails: a random one may miss the mistake.
func (m mutant) try(t *testing.T, binary string) string {
	t.Helper()
	tries := 3
	if campaign.Full(t) {
		tries = 40 // on a busy machine some moments are rarely hit
	}
	var out []byte
	for range tries {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		cmd := exec.CommandContext(ctx, binary, "-test.run", "^"+m.test+"$", "-test.timeout", "2m")
		cmd.Env = append(cmd.Environ(), campaign.Var+"=short", campaign.SeedVar+"=")
		var err error
		out, err = cmd.CombinedOutput()
		cancel()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if strings.Contains(string(out), "--- FAIL: "+m.test) {
			break
		}
	}
	return string(out)
}

// build builds this package's tests with the mistake in package changestream.
func (m mutant) build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	replace := map[string]string{}
	for _, e := range m.edits {
		original, err := filepath.Abs(filepath.Join("..", "..", "..", "changestream", e.file))
		if err != nil {
			t.Fatal(err)
		}
		from := original
		if changed, ok := replace[original]; ok {
			from = changed
		}
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), e.old); n != 1 {
			t.Fatalf("%s has changed: what this test replaces is in it %d times, not once:\n%s", e.file, n, e.old)
		}
		replace[original] = filepath.Join(dir, e.file)
		if err := os.WriteFile(replace[original], []byte(strings.Replace(string(text), e.old, e.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "mutant.test")
	pkg := "."
	if m.unit {
		pkg = "../../../changestream"
	}
	cmd := exec.Command("go", "test", "-c", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, pkg)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}
