package destinationtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rigatoni-etl/rigatoni/state"
)

// check compares what a reader finds with the events: with all of them if complete, and
// otherwise with as many as there may be.
func (s *stream) check(when string, complete bool) {
	var got []Record
	err := s.t.call("Harness.Read", func(ctx context.Context) (err error) {
		got, err = s.t.h.Read(ctx, s.key)
		return err
	})
	if err != nil {
		s.t.fatalf("reading the destination: %v", err)
	}
	covered, exact := len(s.records), s.t.h.ExactlyOnce
	if s.keeps {
		covered, exact = s.stored(), true
		if complete && covered < len(s.records) {
			s.t.errorf("%s: the checkpoint covers %d events, and all %d were delivered", when, covered, len(s.records))
		}
		complete = true // events and checkpoint are there together
	}
	want := s.wanted(covered)
	var wrong string
	_, sweeping := s.sweeps[covered] // it comes before its checkpoint
	switch {
	case s.t.h.Mirror && sweeping && compareDocuments(s.wanted(covered+1), got, complete) == "":
	case s.t.h.Mirror:
		wrong = compareDocuments(want, got, complete)
	default:
		wrong = compareEvents(want, got, complete, exact)
	}
	if wrong != "" {
		s.t.errorf("%s: %s", when, wrong)
	}
}

// checkDocuments compares what a reader of a mirror finds with records.
func (s *stream) checkDocuments(when string, want []Record) {
	var got []Record
	err := s.t.call("Harness.Read", func(ctx context.Context) (err error) {
		got, err = s.t.h.Read(ctx, s.key)
		return err
	})
	if err != nil {
		s.t.fatalf("reading the destination: %v", err)
	}
	if wrong := compareDocuments(want, got, true); wrong != "" {
		s.t.errorf("%s: %s", when, wrong)
	}
}

// stored is how many events the checkpoint in the destination's store covers.
func (s *stream) stored() int {
	var cp state.Checkpoint
	var loadErr error
	_ = s.t.call("Load", func(ctx context.Context) error {
		cp, loadErr = s.t.checkpoints().Load(ctx, s.key)
		return nil
	})
	return s.coveredBy(cp, loadErr)
}

// compareDocuments returns what is wrong with a mirror. Before the stream is complete,
// nothing can be said of one that is not transactional.
func compareDocuments(want, got []Record, complete bool) string {
	docs := map[int32]int32{}
	for _, r := range want {
		if docs[r.ID] = r.N; r.N == 0 {
			delete(docs, r.ID)
		}
	}
	found := map[int32]int32{}
	for _, r := range got {
		if _, twice := found[r.ID]; twice {
			return fmt.Sprintf("the document %d is there twice", r.ID)
		}
		found[r.ID] = r.N
	}
	if complete && !maps.Equal(docs, found) {
		return fmt.Sprintf("a reader finds the documents {_id: n} %v, want %v", found, docs)
	}
	return ""
}

// compareEvents returns what is wrong with a log.
func compareEvents(want, got []Record, complete, exact bool) string {
	wanted, found := byDocument(want), byDocument(got)
	for _, id := range slices.Sorted(maps.Keys(found)) {
		if wanted[id] == nil {
			return fmt.Sprintf("a reader finds an event of the document %d, of which none was delivered, or none is covered by the checkpoint", id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(wanted)) {
		wrong := compareSequence(wanted[id], found[id], complete, exact)
		if wrong != "" {
			return fmt.Sprintf("document %d: %s; a reader finds n = %v, want %v (0 is its delete)", id, wrong, found[id], wanted[id])
		}
	}
	return ""
}

func byDocument(records []Record) map[int32][]int32 {
	all := map[int32][]int32{}
	for _, r := range records {
		all[r.ID] = append(all[r.ID], r.N)
	}
	return all
}

// compareSequence compares the events of one document. Without exactly once, a run of
// them may be there again from any earlier one on, but none may be skipped.
func compareSequence(want, got []int32, complete, exact bool) string {
	at := -1 // index in want of the last one
	for i, n := range got {
		next := slices.Index(want, n)
		switch {
		case next < 0:
			return fmt.Sprintf("n = %d was not delivered, or is not covered by the checkpoint", n)
		case exact && slices.Contains(got[:i], n):
			return fmt.Sprintf("n = %d is there twice", n)
		case next > at+1:
			return fmt.Sprintf("n = %d comes where n = %d is next: an event is missing, or later", n, want[at+1])
		case exact && next <= at:
			return fmt.Sprintf("n = %d is in the wrong order", n)
		}
		at = next
	}
	if complete && at < len(want)-1 {
		if at < 0 {
			return "nothing is there"
		}
		return fmt.Sprintf("n = %s is missing at the end", strings.Trim(fmt.Sprint(want[at+1:]), "[]"))
	}
	return ""
}
