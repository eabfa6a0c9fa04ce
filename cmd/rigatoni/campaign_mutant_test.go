package main

import (
	"encoding/json"
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
	file     string // of package rigatoni
	old, new string
	found    string // what the campaign must say
	campaign
}

// mutants are the mistakes by which pipelines lose events or send them without
// end, each made on purpose.
var mutants = map[string]mutant{
	"what was read is taken for delivered": {
		file:     "flow.go",
		old:      "\tf.handBytes += c.bytes\n\tf.handEnd = c.end\n",
		new:      "\tf.handBytes += c.bytes\n\tf.handEnd = c.end\n\tf.saver.moved(c.end, len(c.events))\n",
		found:    "were written and never arrived",
		campaign: campaign{flags: []string{"--max-batch-age", "1s"}}, // so that much is in hand when it is killed
	},
	"every start is at now": {
		file:  "worker.go",
		old:   "\treturn Start{Checkpoint: w.last, AcceptChanged: w.cfg.AcceptChangedStream}\n",
		new:   "\treturn Start{}\n",
		found: "were written and never arrived",
	},
	"an event is left out": {
		file:     "deliver.go",
		old:      "Events: f.hand[:n:n], Bytes: bytes})\n",
		new:      "Events: f.hand[n/100 : n : n], Bytes: bytes})\n",
		found:    "were written and never arrived",
		campaign: campaign{flags: []string{"--max-batch-age", "2s"}}, // batches of more than a hundred
	},
	"a batch is delivered backwards": {
		file:  "deliver.go",
		old:   "\t\terr := f.dest.Deliver(work, ",
		new:   "\t\tfor i, j := 0, n-1; i < j; i, j = i+1, j-1 {\n\t\t\tf.hand[i], f.hand[j] = f.hand[j], f.hand[i]\n\t\t}\n\t\terr := f.dest.Deliver(work, ",
		found: "although no life began",
	},
	"a batch is delivered twice": {
		file:  "deliver.go",
		old:   "\t\t\tf.p.stats.batches.Add(1)\n",
		new:   "\t\t\tf.p.stats.batches.Add(1)\n\t\t\t_ = f.dest.Deliver(work, &Batch{Stream: f.worker.stream, Events: f.hand[:n:n], Bytes: bytes})\n",
		found: "although no life began",
	},
	"the checkpoint is behind what was delivered": {
		file:  "save.go",
		old:   "\tcp := s.at.delivered()\n",
		new:   "\tcp := s.at.delivered()\n\tif s.seq > 3 {\n\t\tcp = *s.last\n\t}\n",
		found: "when the checkpoint was saved",
	},
	"nothing is saved while it runs": {
		file:  "save.go",
		old:   "\tif s.untilDue() > 0 {\n",
		new:   "\tif s.untilDue() >= 0 {\n",
		found: "old in the median",
	},
}

// TestCampaignFindsMutants: a campaign that finds nothing proves something only
// if it finds what is there. The short form tries the worst mistake of all.
func TestCampaignFindsMutants(t *testing.T) {
	if !campaigns.Full(t) {
		t.Parallel()
	}
	for name, m := range mutants {
		if !campaigns.Full(t) && name != "what was read is taken for delivered" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m.binary = m.build(t)
			m.changes, m.kills, m.rate, m.patience = 2400, 2, 300, 2*time.Second
			record, res := m.run(t)
			wrong := strings.Join(record.judge(res), "\n")
			if !strings.Contains(wrong, m.found) {
				record.tell(t, res)
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
	original := filepath.Join(strings.TrimSpace(string(list)), m.file)
	text, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		t.Fatalf("%s has changed: what this test replaces is in it %d times, not once:\n%s", m.file, n, m.old)
	}
	changed, overlay := filepath.Join(dir, m.file), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{original: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{changed: strings.Replace(string(text), m.old, m.new, 1), overlay: string(replace)} {
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
