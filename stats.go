package rigatoni

import (
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Stats says what a pipeline has done since it was started, over all streams.
type Stats struct {
	Events  uint64 // events delivered
	Bytes   uint64 // their size, as BSON
	Batches uint64 // batches delivered
	Retries uint64 // deliveries that failed and were tried again

	Saves      uint64 // checkpoints saved
	SaveErrors uint64 // saves that failed
	Rewinds    uint64 // how often a stream went back to its checkpoint

	// LastEvent is when the last event delivered happened, by the cluster's
	// clock, to the second; zero if there was none.
	LastEvent time.Time
	// Position is how far the source is known to have been read and delivered,
	// by the cluster's clock, to the second: unlike LastEvent it moves on while
	// nothing happens. With several streams, it is the one furthest on.
	Position time.Time
	// LastSave is when a checkpoint was last saved, by the local clock.
	LastSave time.Time
}

// Stats may be called at any time.
func (p *Pipeline) Stats() Stats {
	c := &p.stats
	return Stats{
		Events: c.events.Load(), Bytes: c.bytes.Load(), Batches: c.batches.Load(), Retries: c.retries.Load(),
		Saves: c.saves.Load(), SaveErrors: c.saveErrors.Load(), Rewinds: c.rewinds.Load(),
		LastEvent: c.lastEvent.time(), Position: c.position.time(), LastSave: c.lastSave.time(),
	}
}

type counters struct {
	events, bytes, batches, retries, saves, saveErrors, rewinds atomic.Uint64
	lastEvent, position, lastSave                               latest
}

// latest is the latest of the times that it was told, in nanoseconds.
type latest struct{ ns atomic.Int64 }

func (l *latest) time() time.Time {
	if ns := l.ns.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

func (l *latest) tell(t time.Time) {
	for ns := t.UnixNano(); ; {
		old := l.ns.Load()
		if ns <= old || l.ns.CompareAndSwap(old, ns) {
			return
		}
	}
}

func (l *latest) tellCluster(t bson.Timestamp) {
	if t.T != 0 {
		l.tell(time.Unix(int64(t.T), 0))
	}
}
