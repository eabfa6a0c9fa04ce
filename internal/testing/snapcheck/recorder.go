package snapcheck

import (
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// A Recorder records what is delivered, run by run: a run is one session of a
// pipeline, which ends with a crash or goes back to its checkpoint.
type Recorder struct {
	// Lanes: tokens come in order for each document only.
	Lanes bool

	mu     sync.Mutex
	log    []delivery
	runs   []Run
	stamps map[Stamp]bool
	reads  int
	faults Faults
}

// A Run is what a session began with.
type Run struct {
	Resumed bool // from a checkpoint; false: it began a copy, or the stream
	// From is the cluster time of the checkpoint.
	From bson.Timestamp
	last resumetoken.Token
}

// A delivery is one event.
type delivery struct {
	run       int
	at        bson.Timestamp
	op        string
	token     uint64 // the hash of it
	coll, key string
	stamp     Stamp
}

// NewRecorder returns one that has recorded nothing.
func NewRecorder() *Recorder {
	return &Recorder{stamps: map[Stamp]bool{}}
}

// Begin begins a run, and returns its number.
func (r *Recorder) Begin(run Run) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.runs = append(r.runs, run)
	return len(r.runs) - 1
}

// Record records an event of a run.
func (r *Recorder) Record(run int, ev rigatoni.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	token, err := ev.Token()
	if err != nil {
		r.faults.add(Disorder, "a %s event has no token: %v", ev.OperationType(), err)
		return
	}
	d := delivery{run: run, at: ev.ClusterTime(), op: ev.OperationType(), token: hashOf(token.Raw()), coll: ev.Namespace().Coll}
	if id := ev.DocumentKey().Lookup("_id"); id.Type != 0 {
		d.key = keyOf(id)
	}
	switch d.op {
	case "read":
		r.reads++
		r.checkRead(ev)
		d.stamp = stampIn(ev.FullDocument())
	case "insert", "replace":
		d.stamp = stampIn(ev.FullDocument())
	case "update":
		fields, _ := ev.UpdateDescription().Lookup("updatedFields").DocumentOK()
		d.stamp = stampIn(fields)
	}
	r.order(&r.runs[run], token, d)
	r.stamps[d.stamp] = true
	r.log = append(r.log, d)
}

// checkRead checks what a destination relies on that keeps documents by their key.
func (r *Recorder) checkRead(ev rigatoni.Event) {
	doc := ev.FullDocument()
	if !intact(doc) {
		r.faults.add(Torn, "the copy of %s %s is not what any write made", ev.Namespace(), ev.DocumentKey())
	}
	key, id := ev.DocumentKey().Lookup("_id"), doc.Lookup("_id")
	if !key.Equal(id) {
		r.faults.add(Torn, "the copy of %s %s has the _id %s", ev.Namespace(), ev.DocumentKey(), id)
	}
}

// order checks that tokens order what is delivered, as destinations do that keep a
// version of each document: a copied document may have the token of the event before
// it, and every event has one of its own.
func (r *Recorder) order(run *Run, token resumetoken.Token, d delivery) {
	last := run.last
	run.last = token
	if last.IsZero() || r.Lanes {
		return
	}
	order, ok := resumetoken.Compare(last, token)
	if !ok || order > 0 || order == 0 && d.op != "read" {
		r.faults.add(Disorder, "run %d: the %s of %s %s has a token that is not after the last one's", d.run, d.op, d.coll, describe(d.key))
	}
}

// Deliveries returns how many events were recorded, and how many of them were reads.
func (r *Recorder) Deliveries() (all, reads int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.log), r.reads
}

// Runs returns how many runs there were.
func (r *Recorder) Runs() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.runs)
}

// Has reports whether a write was delivered.
func (r *Recorder) Has(s Stamp) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stamps[s]
}

func describe(key string) string {
	if key == "" {
		return ""
	}
	return named(key)
}
