package crashtest

import (
	"maps"
	"strings"
	"testing"
)

// Three documents that were there: one that is changed and stays, one that is deleted,
// one that nobody touches; and one that comes later.
var (
	kept, deleted, quiet, fresh = Doc{"orders", 1}, Doc{"orders", 2}, Doc{"orders", 3}, Doc{"orders", 4}

	there       = map[Doc]bool{kept: true, deleted: true, quiet: true}
	copyWritten = map[Doc][]Change{
		kept:    {{kept, Insert, 1}, {kept, Update, 2}, {kept, Update, 3}},
		deleted: {{deleted, Insert, 1}, {deleted, Update, 2}, {deleted, Delete, 3}},
		quiet:   {{quiet, Insert, 1}},
		fresh:   {{fresh, Insert, 1}, {fresh, Update, 2}},
	}
)

func (c Change) line(n int) string {
	text := line(n, c)
	if c.Op == Read {
		inserted := c
		inserted.Op = Insert
		text = strings.Replace(line(n, inserted), `"insert"`, `"read"`, 1)
	}
	return text
}

func TestCopyLedger(t *testing.T) {
	read := func(d Doc, v int) Change { return Change{d, Read, v} }
	update := func(d Doc, v int) Change { return Change{d, Update, v} }
	remove := func(d Doc) Change { return Change{Doc: d, Op: Delete} }
	insert := func(d Doc) Change { return Change{d, Insert, 1} }
	rest := []Change{read(quiet, 1), insert(fresh), update(fresh, 2)}
	with := func(first ...Change) []Change { return append(first, rest...) }
	for name, c := range map[string]struct {
		arrive                  []Change
		copied, changes, inCopy int
		twice, lost, madeUp     int
		fault                   string // what one of the faults says; "" for none at all
	}{
		"copied at first":                {arrive: with(read(kept, 1), read(deleted, 1), update(kept, 2), update(deleted, 2), remove(deleted), update(kept, 3)), copied: 3, changes: 6},
		"copied at last":                 {arrive: with(read(kept, 3)), copied: 2, changes: 2, inCopy: 4},
		"deleted before it was copied":   {arrive: with(read(kept, 2), update(kept, 3)), copied: 2, changes: 3, inCopy: 3},
		"and its delete arrives":         {arrive: with(remove(deleted), read(kept, 2), update(kept, 3)), copied: 2, changes: 3, inCopy: 3},
		"a fresh one that is copied":     {arrive: []Change{read(kept, 3), read(quiet, 1), read(fresh, 2)}, copied: 3, inCopy: 6},
		"lost: a document":               {arrive: rest, copied: 1, changes: 2, inCopy: 4, lost: 1, fault: "1 changes of orders/1 never arrived"},
		"lost: the last change":          {arrive: with(read(kept, 2)), copied: 2, changes: 3, inCopy: 3, lost: 1, fault: "the last one was the update of orders/1 to version 3"},
		"lost: a delete":                 {arrive: with(read(kept, 3), read(deleted, 2)), copied: 3, changes: 3, inCopy: 3, lost: 1, fault: "delete of orders/2"},
		"lost: a change in between":      {arrive: with(read(kept, 1), update(kept, 3)), copied: 2, changes: 4, inCopy: 2, lost: 1, fault: "arrived when the document was at version 1"},
		"lost: a change before a delete": {arrive: with(read(kept, 3), read(deleted, 1), remove(deleted)), copied: 3, changes: 4, inCopy: 2, lost: 1, fault: "orders/2 never arrived"},
		"twice: a document":              {arrive: with(read(kept, 3), read(kept, 3)), copied: 2, changes: 2, inCopy: 4, twice: 1, fault: "read of orders/1 to version 3 is there twice"},
		"twice: a change":                {arrive: with(read(kept, 1), update(kept, 2), update(kept, 2), update(kept, 3)), copied: 2, changes: 4, inCopy: 2, twice: 1, fault: "is there twice"},
		"twice: a delete":                {arrive: with(read(kept, 3), read(deleted, 2), remove(deleted), remove(deleted)), copied: 3, changes: 3, inCopy: 3, twice: 1, fault: "is there twice"},
		"copied at two moments":          {arrive: with(read(kept, 1), read(kept, 3)), copied: 3, changes: 2, inCopy: 4, fault: "read of orders/1 to version 3 arrived when the document was at version 1"},
		"a change before its document":   {arrive: with(update(kept, 2), read(kept, 3)), copied: 2, changes: 2, inCopy: 4, fault: "arrived before the document"},
		"older after newer":              {arrive: with(read(kept, 1), update(kept, 3), update(kept, 2)), copied: 2, changes: 4, inCopy: 2, fault: "arrived when the document was at version"},
		"after its delete":               {arrive: with(read(kept, 3), remove(deleted), read(deleted, 2)), copied: 3, changes: 3, inCopy: 3, fault: "arrived after the document was deleted"},
		"made up: a version":             {arrive: with(read(kept, 3), update(kept, 4)), copied: 2, changes: 2, inCopy: 4, madeUp: 1, fault: "as it never was"},
		"made up: a delete":              {arrive: with(read(kept, 3), remove(kept)), copied: 2, changes: 2, inCopy: 4, madeUp: 1, fault: "as it never was"},
		"made up: a document":            {arrive: with(read(kept, 3), insert(Doc{"orders", 9})), copied: 2, changes: 2, inCopy: 4, madeUp: 1, fault: "orders/9 arrived as it never was"},
	} {
		l := newCopyLedger(seed, there, true)
		for i, a := range c.arrive {
			l.arrive("f", []byte(a.line(i+1)))
		}
		if got, want := l.complete(maps.Clone(copyWritten)), c.lost == 0; got != want {
			t.Errorf("%s: complete %v, want %v", name, got, want)
		}
		lost, madeUp := l.compare(copyWritten)
		n := l.tally()
		if lost != c.lost || madeUp != c.madeUp || n.twice != c.twice || n.copied != c.copied || n.changes != c.changes || n.inCopy != c.inCopy {
			t.Errorf("%s: lost %d, made up %d, %+v", name, lost, madeUp, n)
		}
		words := strings.Join(l.faults.words, "\n")
		if (l.faults.n > 0) != (c.fault != "") || !strings.Contains(words, c.fault) {
			t.Errorf("%s: faults %q, want %q", name, words, c.fault)
		}
	}
}

// Contents that are not those of the version are a fault, in copied documents too.
func TestCopyLedgerReadsContents(t *testing.T) {
	l := newCopyLedger(seed+1, there, true)
	l.arrive("f", []byte(Change{quiet, Read, 1}.line(1)))
	l.arrive("f", []byte("{"))
	l.arrive("f", []byte(`{"_id": {"_data": "82"}, "operationType": "drop"}`))
	if words := strings.Join(l.faults.words, "\n"); l.faults.n != 3 || !strings.Contains(words, "other contents") || !strings.Contains(words, "another kind") {
		t.Errorf("faults: %s", words)
	}
}
