package statetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func save(n uint64, from, to int64) act  { return act{kind: "save", n: n, from: from, to: to} }
func load(n uint64, from, to int64) act  { return act{kind: "load", n: n, from: from, to: to} }
func stale(n uint64, from, to int64) act { return act{kind: "stale", n: n, from: from, to: to} }
func clr(from, to int64) act             { return act{kind: "clear", from: from, to: to} }
func grant(last, epoch uint64, from, to int64) act {
	return act{kind: "grant", n: last, epoch: epoch, from: from, to: to}
}
func owned(n, epoch uint64, from, to int64) act {
	return act{kind: "save", n: n, epoch: epoch, from: from, to: to}
}

// TestHistories has small histories whose verdict is plain.
func TestHistories(t *testing.T) {
	ordered, unordered, cleared, leases := (*history).inOrder, (*history).inSomeOrder, (*history).cleared, (*history).owned
	for _, c := range []struct {
		name  string
		judge func(*history) []string
		ok    bool
		acts  []act
	}{
		{"one after the other", ordered, true, []act{load(0, 1, 2), save(1, 3, 4), load(1, 5, 6), save(2, 7, 8), load(2, 9, 10)}},
		{"a load beside a save sees the old", ordered, true, []act{save(1, 1, 2), save(2, 3, 6), load(1, 4, 5)}},
		{"a load beside a save sees the new", ordered, true, []act{save(1, 1, 2), save(2, 3, 6), load(2, 4, 5)}},
		{"a load sees the old after the save", ordered, false, []act{save(1, 1, 2), save(2, 3, 4), load(1, 5, 6)}},
		{"a load sees nothing after a save", ordered, false, []act{save(1, 1, 2), load(0, 3, 4)}},
		{"a load sees the future", ordered, false, []act{load(1, 1, 2), save(1, 3, 4)}},
		{"a load sees what nobody saved", ordered, false, []act{save(1, 1, 2), load(7, 3, 4)}},
		{"new, then old, beside a save", ordered, false, []act{save(1, 1, 2), save(2, 3, 10), load(2, 4, 5), load(1, 6, 7)}},
		{"a lower one accepted later", ordered, false, []act{save(2, 1, 2), save(1, 3, 4)}},
		{"a lower one accepted beside", ordered, true, []act{save(2, 1, 4), save(1, 2, 3)}},
		{"refused for a later one", ordered, true, []act{save(2, 1, 4), stale(1, 2, 3)}},
		{"refused for nothing", ordered, false, []act{save(2, 3, 4), stale(1, 1, 2)}},

		{"unordered, one after the other", unordered, true, []act{save(2, 1, 2), save(1, 3, 4), load(1, 5, 6)}},
		{"unordered, side by side", unordered, true, []act{save(1, 1, 6), save(2, 2, 5), load(2, 3, 4), load(1, 7, 8)}},
		{"unordered, the overwritten one", unordered, false, []act{save(1, 1, 2), save(2, 3, 4), load(1, 5, 6)}},
		{"unordered, there and back", unordered, false, []act{save(1, 1, 9), save(2, 2, 9), load(1, 10, 11), load(2, 12, 13), load(1, 14, 15)}},
		{"unordered, one between two sights", unordered, false, []act{save(1, 1, 2), load(1, 3, 4), save(2, 5, 6), load(1, 7, 8)}},
		{"unordered, nothing again", unordered, false, []act{save(1, 1, 2), load(0, 3, 4)}},

		{"nothing after a clear", cleared, true, []act{save(1, 1, 2), clr(3, 4), load(0, 5, 6)}},
		{"a later one after a clear", cleared, true, []act{save(1, 1, 2), clr(3, 4), save(2, 5, 6), load(2, 7, 8)}},
		{"the same after a clear", cleared, false, []act{save(1, 1, 2), clr(3, 4), load(1, 5, 6)}},
		{"the same beside a clear", cleared, true, []act{save(1, 1, 2), clr(3, 6), load(1, 4, 5)}},
		{"a lower one after a clear", cleared, false, []act{save(2, 1, 2), clr(3, 4), save(1, 5, 6)}},

		{"two owners in turn", leases, true, []act{grant(0, 1, 1, 2), owned(1, 1, 3, 4), grant(1, 2, 5, 6), owned(2, 2, 7, 8)}},
		{"the old owner saves beside the grant", leases, true, []act{grant(0, 1, 1, 2), owned(1, 1, 3, 6), grant(1, 2, 4, 5)}},
		{"the old owner saves after the grant", leases, false, []act{grant(0, 1, 1, 2), grant(0, 2, 3, 4), owned(1, 1, 5, 6)}},
		{"the old owner saves after the grant has read", leases, false, []act{grant(0, 1, 1, 2), owned(1, 1, 3, 6), grant(0, 2, 4, 5)}},
		{"one epoch twice", leases, false, []act{grant(0, 1, 1, 2), grant(0, 1, 3, 4)}},
		{"a lesser epoch later", leases, false, []act{grant(0, 2, 1, 2), grant(0, 1, 3, 4)}},
		{"the new owner saves what was there", leases, false, []act{grant(5, 1, 1, 2), owned(5, 1, 3, 4)}},
	} {
		h := &history{acts: c.acts}
		if wrong := c.judge(h); (len(wrong) == 0) != c.ok {
			t.Errorf("%s: %q", c.name, wrong)
		}
	}
}

// TestVerdicts compares the verdicts on small random histories with those of a
// search through every order.
func TestVerdicts(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	var yes, no int
	for range 20_000 {
		h := randomHistory(r)
		for name, judged := range map[string]struct {
			got     []string
			ordered bool
		}{"inOrder": {h.inOrder(), true}, "inSomeOrder": {h.inSomeOrder(), false}} {
			want := search(h.acts, 0, judged.ordered)
			if want {
				yes++
			} else {
				no++
			}
			if (len(judged.got) == 0) != want {
				t.Fatalf("%s says %q, and a search %t (seed %d): %v", name, judged.got, want, seed, h.acts)
			}
		}
	}
	if yes < 1000 || no < 1000 {
		t.Errorf("%d histories are possible and %d are not: the test tests one side only", yes, no)
	}
}

func randomHistory(r *rand.Rand) *history {
	n := 2 + r.IntN(4)
	ends := r.Perm(2 * n)
	h := &history{}
	saved := uint64(0)
	for i := range n {
		from, to := int64(ends[2*i])+1, int64(ends[2*i+1])+1
		if from > to {
			from, to = to, from
		}
		if r.IntN(2) == 0 {
			saved++
			h.acts = append(h.acts, save(saved, from, to))
		} else {
			h.acts = append(h.acts, load(r.Uint64N(4), from, to))
		}
	}
	return h
}

// search tries every order of the acts that keeps to their times.
func search(left []act, stored uint64, ordered bool) bool {
	if len(left) == 0 {
		return true
	}
	for i, a := range left {
		if slices.ContainsFunc(left, func(b act) bool { return b.to < a.from }) {
			continue // b comes before a
		}
		next := stored
		switch {
		case a.kind == "load" && a.n != stored, a.kind == "save" && ordered && a.n < stored:
			continue
		case a.kind == "save":
			next = a.n
		}
		if search(slices.Delete(slices.Clone(left), i, i+1), next, ordered) {
			return true
		}
	}
	return false
}

func ExampleReport() {
	r := Report{Seed: 7, Results: []Result{
		{Name: "Load/NotFound", Status: Passed},
		{Name: "Clear/Absent", Status: Failed, Rule: "Clearing a key that has none succeeds.", Detail: `Clear: got "no checkpoint", want success`},
		{Name: "Ping", Status: Skipped, Detail: "the store has no state.Pinger"},
	}}
	fmt.Print(r)
	// Output:
	// passed   Load/NotFound
	// failed   Clear/Absent
	//     the contract says: Clearing a key that has none succeeds.
	//     Clear: got "no checkpoint", want success
	// skipped  Ping: the store has no state.Pinger
	// 1 passed, 1 failed, 1 skipped; seed 7
}
