package snapcheck

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Rules say what to expect of a destination beside what holds for all.
type Rules struct {
	// Once: it is transactional. All runs are one.
	Once bool
	// Lanes: only the events of each document come in order.
	Lanes bool
	// Watched selects the collections; nil: all.
	Watched func(coll string) bool
	// Loose are collections whose copy may follow the changes of its documents, and
	// come twice: those with a collation.
	Loose map[string]bool
	// Unfinished: the load or the pipeline was interrupted; the end is not judged.
	Unfinished bool
}

// A judge replays what was delivered.
type judge struct {
	rules  Rules
	t      *Timeline
	runs   []Run
	log    []delivery
	known  map[string]map[string]version // by collection and key, what the destination has
	faults Faults

	run    int
	event  int            // the moment of the last event in this run, -1 before it
	at     bson.Timestamp // of the last event or read in this run
	read   bson.Timestamp // of the last read
	struck int            // the moment of the last drop, rename … that was delivered; -1 before it

	renames []renaming
}

// A renaming is a rename that was delivered, and what the destination had before it. A
// run that begins before it begins with that.
type renaming struct {
	moment   int
	from, to map[string]version
	after    map[string]version // under the new name, when it was taken back
	undone   bool
}

// A version is the last change of a document that the destination has, and the run
// that brought it.
type version struct {
	k, run int
	copied bool // by a read of this run, or with an insert
	// gone: another collection was renamed onto its own, and may still be copied. What
	// comes after under the key is then left to the copy.
	gone bool
}

// Judge replays what was recorded against the timeline.
func Judge(t *Timeline, r *Recorder, rules Rules) *Faults {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	j := &judge{rules: rules, t: t, runs: r.runs, log: r.log, known: map[string]map[string]version{}, run: -1, struck: -1}
	for _, k := range []Kind{Disorder, Torn} {
		for range r.faults.Count[k] {
			j.faults.add(k, "%s", "see above")
		}
		if n := len(r.faults.Words[k]); n > 0 {
			j.faults.Words[k] = append(r.faults.Words[k][:n:n], j.faults.Words[k][min(n, len(j.faults.Words[k])):]...)
		}
	}
	for _, d := range r.log {
		j.deliver(d)
	}
	if !rules.Unfinished {
		j.end()
	}
	return &j.faults
}

func (j *judge) fault(k Kind, d delivery, format string, args ...any) {
	j.faults.add(k, "run %d: %s of %s %s at %d.%d: %s", d.run, d.op, d.coll, describe(d.key), d.at.T, d.at.I, fmt.Sprintf(format, args...))
}

func (j *judge) watched(coll string) bool { return j.rules.Watched == nil || j.rules.Watched(coll) }

// isPending reports whether a document may still have to be copied in this run, so that
// changes of it are left out. A run that is resumed delivers the deletes all the same: the
// destination may have the document from a run before.
func (j *judge) isPending(v version, seen bool) bool {
	return j.runs[j.run].Resumed && !(seen && v.run == j.run && v.copied)
}

func (j *judge) deliver(d delivery) {
	began := d.run != j.run && (!j.rules.Once || j.run < 0)
	if began {
		j.run, j.event, j.at, j.read = d.run, -1, bson.Timestamp{}, bson.Timestamp{}
	}
	n, ok := j.t.byToken[d.token]
	if began {
		j.takeBack(n, d)
	}
	if d.op == "read" {
		j.copy(d)
		return
	}
	if !ok {
		if d.op != "invalidate" {
			j.fault(Unknown, d, "the server sent no event with its token")
		}
		return
	}
	j.order(n, d)
	if m := j.t.moments[n]; m.doc != nil {
		j.change(m, d)
	} else {
		j.strike(n, m, d)
	}
}

// takeBack takes back the renames that come after the first delivery of a run, which are
// delivered again.
func (j *judge) takeBack(n int, d delivery) {
	for i := len(j.renames) - 1; i >= 0; i-- {
		u := &j.renames[i]
		m := j.t.moments[u.moment]
		if u.undone || d.op == "read" && !m.at.After(d.at) || d.op != "read" && u.moment < n {
			continue
		}
		u.undone, u.after = true, j.known[m.to]
		j.known[m.coll], j.known[m.to] = u.from, u.to
	}
}

// order checks the order in the stream.
func (j *judge) order(n int, d delivery) {
	if from := j.runs[j.run].From; d.at.Before(from) {
		j.fault(Twice, d, "the checkpoint was at %d.%d", from.T, from.I)
	}
	if j.rules.Lanes {
		return
	}
	switch {
	case n == j.event:
		j.fault(Twice, d, "the same event")
	case n < j.event:
		j.fault(Disorder, d, "after a later event")
	}
	if !d.at.After(j.read) {
		j.fault(Disorder, d, "after a copy at %d.%d", j.read.T, j.read.I)
	}
	j.event, j.at = n, d.at
}

func (j *judge) put(coll, key string, v version) {
	docs := j.known[coll]
	if docs == nil {
		docs = map[string]version{}
		j.known[coll] = docs
	}
	docs[key] = v
}

// copy judges a read.
func (j *judge) copy(d delivery) {
	if d.at.Before(j.at) && !j.rules.Lanes {
		j.fault(Disorder, d, "after what happened at %d.%d", j.at.T, j.at.I)
	}
	if !j.rules.Lanes {
		j.at, j.read = d.at, d.at
	}
	h := j.t.docs[d.coll][d.key]
	k := h.at(d.at)
	if k < 0 || h.changes[k].stamp != d.stamp {
		had := Stamp(0)
		if k >= 0 {
			had = h.changes[k].stamp
		}
		j.fault(Torn, d, "copied with stamp %d; then the server had %d", d.stamp, had)
		for i := range lenOf(h) { // so that one fault is not taken for many
			if h.changes[i].stamp == d.stamp {
				k = i
			}
		}
		if k < 0 {
			return
		}
	}
	old, seen := j.known[d.coll][d.key]
	if here := seen && old.run == j.run; here && !j.rules.Loose[d.coll] {
		switch {
		case k < old.k:
			j.fault(Disorder, d, "version %d after version %d", k, old.k)
		case k == old.k || old.copied && h.changes[old.k].stamp != 0:
			j.fault(Twice, d, "version %d was delivered in this run%s", old.k, j.story(h))
		}
	}
	j.put(d.coll, d.key, version{k: k, run: j.run, copied: true})
}

func lenOf(h *history) int {
	if h == nil {
		return 0
	}
	return len(h.changes)
}

// change judges an event of a document.
func (j *judge) change(m moment, d delivery) {
	h, k := m.doc, m.k
	v, seen := j.known[d.coll][d.key]
	next := version{k: k, run: j.run, copied: d.op == "insert" || v.copied && v.run == j.run}
	j.put(d.coll, d.key, next)
	pending := j.isPending(v, seen)
	switch {
	case j.rules.Loose[d.coll]:
	case !seen:
		if d.op != "insert" && !(pending && d.op == "delete") {
			j.fault(Early, d, "the document was neither copied nor inserted before%s", j.story(h))
		}
	case k <= v.k && v.run == j.run:
		j.fault(Disorder, d, "version %d after version %d", k, v.k)
	case k > v.k+1 && !v.gone && !(pending && (d.op == "delete" || d.op == "insert" && h.changes[v.k].stamp == 0)):
		j.fault(Missing, d, "version %d after version %d", k, v.k)
	}
}

// strike judges an event of a collection or the database.
func (j *judge) strike(n int, m moment, d delivery) {
	for i := j.struck + 1; i < n && j.struck >= 0; i++ {
		if s := j.t.moments[i]; s.doc == nil && (j.watched(s.coll) || j.watched(s.to)) {
			j.fault(Missing, d, "the %s of %s at %d.%d before it", s.op, s.coll, s.at.T, s.at.I)
		}
	}
	j.struck = n
	switch m.op {
	case "drop":
		j.empty(m.coll, n, d)
	case "rename":
		j.rename(n, m, d)
	}
}

// empty takes the documents of a collection away.
func (j *judge) empty(coll string, n int, d delivery) {
	for key, v := range j.known[coll] {
		h := j.t.docs[coll][key]
		k := h.of(n)
		if k < 0 {
			continue // it was gone before
		}
		if k > v.k+1 && !v.gone && !j.rules.Loose[coll] && !j.isPending(v, true) {
			j.fault(Missing, d, "%s is at version %d, and it should be at %d%s", describe(key), v.k, k-1, j.story(h))
		}
		j.put(coll, key, version{k: k, run: j.run})
	}
}

// rename moves the documents of a collection. What was not copied yet under the old
// name is still to be copied under the new one.
func (j *judge) rename(n int, m moment, d delivery) {
	var moved, left map[string]version
	i := slices.IndexFunc(j.renames, func(u renaming) bool { return u.moment == n })
	if i < 0 {
		i = len(j.renames)
		j.renames = append(j.renames, renaming{})
	}
	left = j.renames[i].after
	j.renames[i] = renaming{moment: n, from: maps.Clone(j.known[m.coll]), to: maps.Clone(j.known[m.to])}
	if j.watched(m.coll) {
		moved = maps.Clone(j.known[m.coll])
		j.empty(m.coll, n, d)
	}
	if !j.watched(m.to) {
		return
	}
	target := map[string]version{}
	for key, v := range j.known[m.to] {
		if j.t.docs[m.coll][key].of(n) < 0 { // it does not move onto it
			if k := j.t.docs[m.to][key].of(n); k >= 0 {
				v = version{k: k, run: j.run, gone: true}
			}
			target[key] = v
		}
	}
	for key, v := range moved {
		if h := j.t.docs[m.coll][key]; h.of(n) >= 0 {
			j.move(h, n, v, j.t.docs[m.to][key].of(n), target)
		}
	}
	// What an earlier run delivered under the new name, the destination still has.
	for key, v := range left {
		if _, ok := target[key]; !ok {
			target[key] = v
		}
	}
	j.known[m.to] = target
}

// move moves a document with its collection. Where it is still to be copied, it is so
// under the new name.
func (j *judge) move(h *history, n int, v version, to int, target map[string]version) {
	switch pending := v.k != h.of(n)-1; {
	case !pending:
	case h.changes[v.k].stamp == 0:
		return // it was deleted, and what came after that is not copied
	default:
		v.run, v.copied = -1, false
	}
	v.k = to
	target[h.key] = v
}

// end compares what the destination has with what the server has.
func (j *judge) end() {
	for coll, docs := range j.t.docs {
		if !j.watched(coll) {
			continue
		}
		for key, h := range docs {
			v, seen := j.known[coll][key]
			last := len(h.changes) - 1
			switch {
			case h.live() && !seen:
				j.faults.add(Missing, "%s %s never arrived: it has %d versions%s", coll, describe(key), last+1, j.story(h))
			case h.live() && v.k != last:
				j.faults.add(Missing, "%s %s is at version %d at the end, and should be at %d%s", coll, describe(key), v.k, last, j.story(h))
			case seen && v.k != last:
				j.faults.add(Left, "%s %s is at version %d at the end, and was deleted with version %d%s", coll, describe(key), v.k, last, j.story(h))
			}
		}
	}
}

// story is what happened to a document, and what of it was delivered.
func (j *judge) story(h *history) string {
	var b strings.Builder
	if j.faults.Count[Missing]+j.faults.Count[Left]+j.faults.Count[Twice] >= 3 { // such faults come by the thousand
		return ""
	}
	for k, c := range h.changes {
		m := j.t.moments[c.moment]
		fmt.Fprintf(&b, "\n\t\t%d: %s of %s to %d at %d.%d", k, m.op, m.coll, c.stamp, c.at.T, c.at.I)
	}
	for _, d := range j.log {
		if d.key == h.key || d.key == "" {
			fmt.Fprintf(&b, "\n\t\tdelivered in run %d: %s of %s to %d at %d.%d", d.run, d.op, d.coll, d.stamp, d.at.T, d.at.I)
		}
	}
	for i, r := range j.runs {
		fmt.Fprintf(&b, "\n\t\trun %d begins at %d.%d", i, r.From.T, r.From.I)
	}
	return b.String()
}
