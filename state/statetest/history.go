package statetest

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// A history is what several goroutines did and saw. Its clock only counts: an
// act whose to is less than another's from had ended before the other began.
type history struct {
	clock atomic.Int64
	mu    sync.Mutex
	acts  []act
}

// An act is one call and its answer.
type act struct {
	kind     string // "save", "stale" (a save that was refused for it), "load", "clear", "grant"
	n        uint64 // what was saved, refused or loaded (0: nothing); of a grant, its last sequence
	epoch    uint64 // of saves under a fence and grants
	from, to int64
}

func (a act) String() string {
	return fmt.Sprintf("%s of %d (epoch %d, from %d to %d)", a.kind, a.n, a.epoch, a.from, a.to)
}

// record times do, which says what it was.
func (h *history) record(do func() (a act, ok bool)) {
	from := h.clock.Add(1)
	a, ok := do()
	a.from, a.to = from, h.clock.Add(1)
	if ok {
		h.mu.Lock()
		h.acts = append(h.acts, a)
		h.mu.Unlock()
	}
}

func (h *history) of(kind string) []act {
	var some []act
	for _, a := range h.acts {
		if a.kind == kind {
			some = append(some, a)
		}
	}
	return some
}

// clusters are the acts of each value: the save that brought it, and the loads
// that saw it. Every value is saved once.
func (h *history) clusters() (clusters map[uint64][]act, wrong []string) {
	clusters = map[uint64][]act{0: {{kind: "save"}}} // nothing, before all
	for _, a := range h.of("save") {
		clusters[a.n] = append(clusters[a.n], a)
	}
	for _, a := range h.of("load") {
		c := clusters[a.n]
		switch {
		case len(c) == 0:
			wrong = append(wrong, fmt.Sprintf("%v: no save of that was accepted", a))
			continue
		case a.to < c[0].from:
			wrong = append(wrong, fmt.Sprintf("%v, before the %v", a, c[0]))
		}
		clusters[a.n] = append(c, a)
	}
	return clusters, wrong
}

// inOrder says why the calls can't have happened one after the other in the
// order of the sequences, nil if they can: it must be possible to give every call
// a moment between its beginning and its end, so that saves are accepted in rising
// order, loads see the last one, and what was refused was refused for a later one.
func (h *history) inOrder() []string {
	clusters, wrong := h.clusters()
	var values []uint64
	for n := range clusters {
		values = append(values, n)
	}
	slices.Sort(values)
	// Of all acts on lesser values, the one that began last.
	var latest act
	for _, n := range values {
		next := latest
		for _, a := range clusters[n] {
			if a.to < latest.from {
				wrong = append(wrong, fmt.Sprintf("%v had ended before the %v began", a, latest))
			}
			if a.from > next.from {
				next = a
			}
		}
		latest = next
	}
	for _, r := range h.of("stale") {
		if !slices.ContainsFunc(h.of("save"), func(s act) bool { return s.n >= r.n && s.from < r.to }) {
			wrong = append(wrong, fmt.Sprintf("%v, though nothing later had been saved", r))
		}
	}
	return wrong
}

// cleared is inOrder for a history with clears, after which a load may find
// nothing, but never again what was saved before.
func (h *history) cleared() []string {
	saved := make(map[uint64]act)
	for _, s := range h.of("save") {
		saved[s.n] = s
	}
	var wrong []string
	seen := &history{acts: append(h.of("save"), h.of("stale")...)}
	for _, l := range h.of("load") {
		if l.n == 0 {
			continue
		}
		seen.acts = append(seen.acts, l)
		for _, c := range h.of("clear") {
			if c.from > saved[l.n].to && c.to < l.from {
				wrong = append(wrong, fmt.Sprintf("%v, after the %v, and that after the %v", l, c, saved[l.n]))
			}
		}
	}
	return append(wrong, seen.inOrder()...)
}

// A zone is the time in which a value must have been the stored one (forward),
// or that in which its moment may lie (not forward).
type zone struct {
	n        uint64
	from, to int64
	forward  bool
}

// inSomeOrder is inOrder for saves without a sequence, whose order is the
// store's. It is the test of Gibbons and Korach ("Testing Shared Memories", 1997)
// for a register whose values are all different.
func (h *history) inSomeOrder() []string {
	clusters, wrong := h.clusters()
	var zones []zone
	for n, c := range clusters {
		firstEnd, lastBegin := c[0].to, c[0].from
		for _, a := range c {
			firstEnd, lastBegin = min(firstEnd, a.to), max(lastBegin, a.from)
		}
		if firstEnd < lastBegin {
			zones = append(zones, zone{n, firstEnd, lastBegin, true})
		} else {
			zones = append(zones, zone{n, lastBegin, firstEnd, false})
		}
	}
	slices.SortFunc(zones, func(a, b zone) int { return cmp.Compare(a.from, b.from) })
	for i, a := range zones {
		for _, b := range zones[i+1:] {
			switch {
			case b.from > a.to:
			case a.forward && b.forward:
				wrong = append(wrong, fmt.Sprintf("%d and %d were the stored one by turns: %v, %v", a.n, b.n, clusters[a.n], clusters[b.n]))
			case a.forward && b.to < a.to:
				wrong = append(wrong, fmt.Sprintf("%d was saved while %d was seen before and after: %v, %v", b.n, a.n, clusters[b.n], clusters[a.n]))
			}
		}
	}
	return wrong
}

// owned says what is wrong with a history of grants and of saves under their
// fences: of two fences that were current at once, for one.
func (h *history) owned() (wrong []string) {
	grants, saves := h.of("grant"), h.of("save")
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	slices.SortFunc(grants, func(a, b act) int { return cmp.Compare(a.epoch, b.epoch) })
	for i, g := range grants {
		for _, later := range grants[i+1:] {
			switch {
			case later.epoch == g.epoch:
				add("two grants have the same epoch: %v, %v", g, later)
			case later.to < g.from:
				add("the %v had ended before the %v began", later, g)
			}
		}
		for _, s := range saves {
			switch {
			case s.epoch < g.epoch && s.from > g.to:
				add("%v was accepted after the %v", s, g)
			case s.epoch < g.epoch && s.n > g.n:
				add("%v was accepted after the %v had been given what was stored", s, g)
			case s.epoch >= g.epoch && s.n <= g.n:
				add("%v was accepted, though the %v knows of a later one", s, g)
			}
		}
	}
	return wrong
}
