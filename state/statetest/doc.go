// Package statetest tells whether a state store keeps the contract of package
// [github.com/rigatoni-etl/rigatoni/state]. Whoever writes a store runs it; the
// stores of this project run it too, each against the real thing.
//
// # For the author of a store
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
// Every case carries the sentence of the contract that it enforces, and prints
// it when it fails. What the store has beyond the three methods (leases, lists,
// batches and so on) is found with [state.As] and tested where it is there;
// what isn't there is skipped by name, so that the list of skipped cases is the
// list of what the store doesn't do, or what nobody has looked at.
//
// A store that can lock a record has most of the work done for it:
// [record.CheckSave] before anything is touched, then read, [record.Admit], write.
// A store that can't (because its rules must run in a server's own language)
// is held to the same answers by the cases under Random, which do the same random
// operations to the store and to Admit and compare every answer.
//
// Then fill in the harness. Its hooks do to the store what no caller can do:
// damage what is stored, let time run out, cut the connection. Each hook that is
// nil is a set of cases skipped, and those cases are the ones about losing a
// place without noticing, so they are worth the trouble.
//
// # For a program
//
// [Check] does the same without package testing and gives back a [Report], so that a
// command can try a store that its user points it at.
//
// # What it can't see
//
// The suite calls methods, in one process. It does not cut the power, kill the
// process in the middle of a write, or lose a replica; what "durable" means in the
// store's own terms needs a test of its own. Concurrency is tested by recording
// what happened and looking for what can't have: a race that is rare enough may
// pass. That a time to live is refreshed by a renewal, or that a list stays right
// while keys come and go, it does not look at.
package statetest
