package destinationtest

import (
	"slices"
	"testing"
)

// A mutant is a destination with a bug, and the case that must find it.
type mutant struct{ kind, bug, found string }

var mutants = []mutant{
	{"plain", "the last of many events is dropped", "Deliver/All"},
	{"plain", "the batch is changed", "Deliver/All"},
	{"plain", "a batch is written backwards", "Deliver/Order"},
	{"buffered", "output is not cut back", "Deliver/Again"},
	{"plain", "an ended context hangs", "Deliver/EndedContext"},
	{"plain", "keys are folded", "Deliver/Keys"},
	{"buffered", "an idle Sync returns nothing", "Session/Idle"},
	{"plain", "a second session fails", "Session/FollowsAnother"},
	{"buffered", "Open does not do what is left", "Session/CrashAtEachCall"},
	{"tx", "the checkpoint is not saved", "Session/CrashAtEachCall"},
	{"buffered", "output is not cut back", "Session/GoesBack"},
	{"plain", "output is not noticed", "Session/FirstStart"},
	{"plain", "output is never accepted", "Session/FirstStart"},
	{"plain", "a refusal without facts", "Session/FirstStart"},
	{"plain", "a refusal that is no OutputError", "Session/FirstStart"},
	{"buffered", "parts are named by the epoch", "Session/EpochGoesBack"},
	{"buffered", "owners share a part", "Session/OldOwner"},
	{"buffered", "Sync flushes nothing", "Sync/Durable"},
	{"buffered", "Sync writes its buffer twice", "Sync/Repeated"},
	{"buffered", "Sync returns text", "Sync/Repeated"},
	{"buffered", "Committed forgets what was delivered since", "Sync/Behind"},
	{"buffered", "a Syncer is Concurrent", "Sync/NotConcurrent"},
	{"concurrent", "concurrent writes are lost", "Concurrent/Documents"},
	{"plain", "a refusal that is not Permanent", "Refused/Permanent"},
	{"plain", "Partial counts the event that failed", "Refused/Permanent"},
	{"tx", "no checkpointer", "Transaction/Checkpointer"},
	{"tx", "the checkpoint is not saved", "Transaction/Together"},
	{"tx", "a repetition is applied", "Transaction/Repetition"},
	{"tx", "the fence is not checked", "Transaction/Fenced"},
	{"mirror", "the fence is not checked", "Transaction/Fenced"},
	{"tx", "the sequence is not checked", "Transaction/Stale"},
	{"tx", "the fence is not checked", "Transaction/Race"},
	{"tx", "what comes before a refused event is applied", "Transaction/Refused"},
	{"tx", "parts of a transaction", "Refused/Permanent"},
	{"plain", "what is copied is passed over", "Snapshot/Order"},
	{"tx", "the token decides what a repetition is", "Snapshot/Order"},
	{"tx", "Extra is not saved", "Snapshot/CrashAtEachCall"},
	{"tx", "the checkpoint comes first", "Snapshot/CrashAtEachStep"},
	{"tx", "a repetition is applied", "Snapshot/CrashAtEachStep"},
	{"sweeper", "a sweep removes nothing", "Sweep/Removes"},
	{"sweeper", "a sweep removes all", "Sweep/Removes"},
	{"sweeper", "a sweep removes what is as new as the copy", "Sweep/Removes"},
	{"sweeper", "a sweep ignores the collection", "Sweep/OtherCollections"},
	{"sweeper", "a second sweep fails", "Sweep/Again"},
	{"sweeper", "a sweep ignores the fence", "Sweep/Fenced"},
	{"sweeper", "a sweep hides its error", "Sweep/CrashAtEachStep"},
	{"plain", "Partial counts the event that failed", "Fault/StepFails"},
	{"tx", "the checkpoint comes later", "Fault/StepFails"},
	{"tx", "a repetition is applied", "Fault/AnswerIsLost"},
	{"tx", "the checkpoint comes later", "Fault/Crash"},
	{"tx", "the checkpoint comes first", "Fault/Crash"},
	{"mirror", "the checkpoint comes first", "Fault/Crash"},
	{"buffered", "recovery is done once", "Fault/CrashOfTheNext"},
	{"tx", "the record is read before the lock", "Fault/Freeze"},
	{"buffered", "owners share a part", "Random/Owners"},
}

// TestMutants: each rule has a mistake that only its case need find.
func TestMutants(t *testing.T) {
	missing := map[string]bool{}
	for _, c := range cases() {
		missing[c.name] = true
	}
	for _, m := range mutants {
		delete(missing, m.found)
		t.Run(m.kind+"/"+m.bug+"/"+m.found, func(t *testing.T) {
			t.Parallel()
			all := cases()
			i := slices.IndexFunc(all, func(c testCase) bool { return c.name == m.found })
			if i < 0 {
				t.Fatalf("there is no case %s", m.found)
			}
			// A mistake that shows only in a race may escape one try, on a busy machine.
			var r Result
			for attempt := 0; attempt < 20 && r.Status != Failed; attempt++ {
				h, err := newRef(m.kind, m.bug).complete()
				if err != nil {
					t.Fatal(err)
				}
				r = all[i].try(t.Context(), h)
			}
			if r.Status != Failed {
				t.Errorf("%s: %s %s", m.found, r.Status, r.Detail)
			} else {
				t.Log(r.text())
			}
		})
	}
	for name := range missing {
		t.Errorf("%s has no mutant", name)
	}
}
