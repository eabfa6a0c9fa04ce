package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/testbinary"
	campaigns "github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
)

// A mutant is the command with a fault built into its pipeline, which a campaign
// must find.
type mutant struct {
	file     string // from the root of the repository
	old, new string
	imports  string // a package that new needs and the file doesn't import
	found    string // what the campaign must say
	campaign campaign
}

// deliver is where a session calls the sink.
const deliver = "{ return s.sink.sink.Deliver(ctx, b) },\n"

// mutants are mistakes by which pipelines lose, repeat or reorder events, or save
// too rarely.
var mutants = map[string]mutant{
	"what was read is taken for delivered": {
		file: "tracker.go",
		old:  "func (t *tracker) mark() mark {\n\tt.mu.Lock()\n\tdefer t.mu.Unlock()\n",
		new: "func (t *tracker) mark() mark {\n\tt.mu.Lock()\n\tdefer t.mu.Unlock()\n" +
			"\tif n := len(t.spans); n > 0 {\n\t\ts := t.spans[n-1]\n\t\treturn mark{event: s.events[len(s.events)-1], end: s.end, events: t.low.events + uint64(t.open)}\n\t}\n",
		found:    "were written and never arrived",
		campaign: campaign{flags: []string{"--max-batch-age", "1s"}, kills: 8}, // so that much is in hand at one of them
	},
	"every start is at now": {
		file:  "checkpointer.go",
		old:   "\treturn Start{Checkpoint: c.last, AcceptChanged: c.cfg.AcceptChangedStream}\n",
		new:   "\treturn Start{}\n",
		found: "were written and never arrived",
	},
	"an event is left out": {
		file:     "session.go",
		old:      deliver,
		new:      "{ b.Events = b.Events[len(b.Events)/100:]; return s.sink.sink.Deliver(ctx, &Batch{Stream: b.Stream, Events: b.Events, End: b.End}) },\n",
		found:    "were written and never arrived",
		campaign: campaign{flags: []string{"--max-batch-age", "2s"}}, // batches of more than a hundred
	},
	"a batch is delivered backwards": {
		file:    "session.go",
		old:     deliver,
		new:     "{ slices.Reverse(b.Events); return s.sink.sink.Deliver(ctx, b) },\n",
		found:   "arrived out of order",
		imports: "slices",
	},
	"a batch is delivered twice": {
		file:  "session.go",
		old:   deliver,
		new:   "{ _ = s.sink.sink.Deliver(ctx, b); return s.sink.sink.Deliver(ctx, b) },\n",
		found: "although no process was started",
	},
	"the checkpoint is behind what was delivered": {
		file:  "checkpointsave.go",
		old:   "\tcp := pos.delivered()\n",
		new:   "\tcp := pos.delivered()\n\tif seq > 3 && c.last != nil {\n\t\tcp = *c.last\n\t}\n",
		found: "when the checkpoint was saved",
	},
	"nothing is saved while it runs": {
		file:     "checkpointsave.go",
		old:      "\tevery := c.cfg.SaveInterval\n",
		new:      "\tevery := time.Hour\n",
		found:    "old in the median",
		campaign: campaign{interval: 200 * time.Millisecond},
	},
	"files are finished before the checkpoint is saved": {
		file: "destinations/ndjson/sink.go",
		old:  "\treturn json.Marshal(savedOf(s.ended, s.end))\n",
		new: "\tif s.cur != nil {\n\t\ts.endFile()\n\t}\n\tdoc, err := json.Marshal(savedOf(s.ended, s.end))\n" +
			"\ts.sure = s.end\n\ts.finish()\n\ttime.Sleep(100 * time.Millisecond)\n\treturn doc, err\n",
		found:    "the output is ahead of the checkpoint", // the next process refuses to start
		campaign: campaign{kills: 8, changes: 6000},
	},
	"output is not cut at opening": {
		file:     "destinations/ndjson/recovery.go",
		old:      "if cut := info.Size() - f.size; cut > 0 {",
		new:      "if cut := info.Size() - f.size; cut > 1<<40 {",
		found:    "lines of finished files are repeats",
		campaign: campaign{interval: 2 * time.Second},
	},
	"only torn lines are cut at opening": {
		file:     "destinations/ndjson/recovery.go",
		old:      "\tinfo, err := h.Stat()\n",
		new:      "\tf.size, _ = wholeLines(io.NewSectionReader(h, 0, 1<<40))\n\tinfo, err := h.Stat()\n",
		found:    "lines of finished files are repeats",
		campaign: campaign{interval: 2 * time.Second},
	},
	"files that no checkpoint covers are finished": {
		file:     "destinations/ndjson/recovery.go",
		old:      "if err := r.removeFile(f);",
		new:      "if err := r.d.finish(f.base, f.name);",
		found:    "lines of finished files are repeats",
		campaign: campaign{interval: 2 * time.Second, toOptions: "?max-file-bytes=16KiB"},
	},
}

// TestCampaignFindsMutants: a campaign that finds nothing proves something only
// if it finds what is there. The short form tries the worst that loses events, and one that repeats them.
func TestCampaignFindsMutants(t *testing.T) {
	if !campaigns.Full(t) {
		t.Parallel()
	}
	for name, m := range mutants {
		if !campaigns.Full(t) && name != "what was read is taken for delivered" && name != "only torn lines are cut at opening" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m.campaign.binary = m.build(t)
			m.campaign.changes, m.campaign.kills, m.campaign.rate, m.campaign.patience = max(m.campaign.changes, 2400), max(m.campaign.kills, 2), 300, 2*time.Second
			record, res, err := m.campaign.tryRun(t)
			wrong := fmt.Sprint(err)
			if err == nil {
				record.tell(t, res)
				wrong = strings.Join(record.judge(res), "\n")
			}
			if !strings.Contains(wrong, m.found) {
				t.Errorf("the campaign did not say %q; it said:\n%s", m.found, wrong)
			}
		})
	}
}

// build builds the command with the fault in it.
func (m mutant) build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	list, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/rigatoni-etl/rigatoni").Output()
	if err != nil {
		t.Fatalf("finding the source of package rigatoni: %v", err)
	}
	original := filepath.Join(strings.TrimSpace(string(list)), filepath.FromSlash(m.file))
	text, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		t.Fatalf("%s has changed: what this test replaces is in it %d times, not once:\n%s", m.file, n, m.old)
	}
	mutated := strings.Replace(string(text), m.old, m.new, 1)
	if m.imports != "" {
		mutated = strings.Replace(mutated, "import (\n", "import (\n\t\""+m.imports+"\"\n", 1)
	}
	changed, overlay := filepath.Join(dir, filepath.Base(m.file)), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{original: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{changed: mutated, overlay: string(replace)} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	binary := filepath.Join(dir, "rigatoni")
	if err := testbinary.Build(binary, "-overlay", overlay); err != nil {
		t.Fatal(err)
	}
	return binary
}
