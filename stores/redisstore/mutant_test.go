package redisstore_test

import (
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/rigatoni-etl/rigatoni/internal/testing/campaign"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

// mutantEnv names a mistake to make, in a test binary that does one test.
const mutantEnv = "REDISSTORE_MUTANT"

// mutants are mistakes, most of them in the scripts, each of which lets an old owner write.
// The trials must see every one.
var mutants = map[string]struct {
	old, new string
	short    bool // it is in the short form too
}{
	"the nonce is not compared":          {old: `nonce ~= ARGV[2] or epoch ~=`, new: `epoch ~=`, short: true},
	"the fence is not compared":          {old: `nonce ~= ARGV[2] or epoch ~= tonumber(ARGV[1])`, new: `false`, short: true},
	"the sequence is not compared":       {old: `sequence ~= 0 and sequence <= last`, new: `false`, short: true},
	"an unfenced write shuts nobody out": {old: `epoch, ousts = epoch + 1, true`, new: ``},
}

func isMutant() bool { return os.Getenv(mutantEnv) != "" }

// mutate makes the mistake that this process is to make, if it is to make one.
func mutate(t *testing.T) {
	t.Helper()
	if isMutant() && !makeMistake() {
		t.Fatalf("the scripts have changed: what the mutant %q replaces is in none of them", os.Getenv(mutantEnv))
	}
}

var makeMistake = sync.OnceValue(func() bool {
	m, known := mutants[os.Getenv(mutantEnv)]
	return known && redisstore.ReplaceInScripts(m.old, m.new)
})

// TestTrialsFindMutants: trials that find nothing prove something only if they
// find what is there.
func TestTrialsFindMutants(t *testing.T) {
	for name, m := range mutants {
		if !m.short && !campaign.Full(t) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestLateWrites$/^one_server$", "-test.timeout=2m")
			cmd.Env = append(os.Environ(), mutantEnv+"="+name, campaign.Var+"=short")
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "OVERWRITTEN") {
				t.Errorf("the trials found nothing: %v\n%s", err, out)
			}
		})
	}
}
