// Package statetest tests whether a store follows the contract of package
// [github.com/rigatoni-etl/rigatoni/state]. It is for authors of a store; the
// stores of this project run it against real servers and file systems.
//
// # For authors of a store
//
// Begin with Save, Load and Clear, and one test:
//
//	func TestStore(t *testing.T) {
//		statetest.Run(t, func(t *testing.T) statetest.Harness {
//			dir := t.TempDir()
//			return statetest.Harness{
//				Open: func(ctx context.Context) (state.Store, error) { return mystore.Open(dir) },
//			}
//		})
//	}
//
// Every case has the sentence of the contract that it enforces, and prints it when
// it fails. The suite finds the store's capabilities (leases, lists, batches and so
// on) with [state.As] and tests those that exist. The other cases are skipped by
// name, so the list of skipped cases is the list of what the store doesn't support
// or the harness can't test.
//
// For a store that can lock a record, package record has the rules: call
// [record.CheckSave], read, call [record.Admit], write. A store that can't, because
// its rules must run in a server's own language, is compared with them by the
// Random cases, which apply the same random operations to the store and to Admit
// and compare every result.
//
// Then complete the harness. Its hooks do what no caller can do: damage what is
// stored, let time pass, cut the connection. A hook that is nil skips the cases that
// need it. Those cases are about losing a checkpoint without noticing, so they are
// worth the effort.
//
// # For programs
//
// [Check] does the same without package testing and returns a [Report], so that a
// command can test a store that its user names.
//
// # Limits
//
// The suite calls methods in one process. It doesn't cut the power, kill the process
// during a write, or lose a replica; what "durable" means for the store needs a test
// of its own. It tests concurrency by recording what happened and looking for
// histories that are impossible, so it may miss a rare race. It doesn't test that a
// renewal extends a time to live, or that a list is right while keys are added and
// removed.
package statetest
