package otelrigatoni

import (
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/rigatoni-etl/rigatoni"
)

// A kind is how a metric is read, and what becomes of it where many streams are
// reported as one.
type kind int

const (
	counter kind = iota // grows; summed
	gauge               // goes up and down; summed
	highest             // a gauge of which the highest is the worst
	lowest              // a gauge of which the lowest is the worst
	single              // a gauge that means nothing for many streams
)

// A definition is one metric that is read from a status.
type definition struct {
	name, unit, help string
	kind             kind
	// value returns the metric, if it is known.
	value func(s rigatoni.StreamStatus, now time.Time) (v float64, known bool)
}

// causes is read differently: it has an attribute of its own.
const causes = "rigatoni.interruptions"

var definitions = []definition{
	{"rigatoni.streams", "{stream}", "Streams of the pipeline.", gauge, always(func(rigatoni.StreamStatus) float64 { return 1 })},
	{"rigatoni.streams.up", "{stream}", "Streams that are open and whose server answers.", gauge, always(func(s rigatoni.StreamStatus) float64 {
		return oneIf(s.Phase == rigatoni.PhaseStreaming && s.Outage.IsZero())
	})},
	{"rigatoni.leases.held", "{lease}", "Leases that this process holds.", gauge, always(func(s rigatoni.StreamStatus) float64 { return oneIf(s.Owner != "") })},
	{"rigatoni.lease.epoch", "{epoch}", "Epoch of the lease: it grows with each new owner.", single, func(s rigatoni.StreamStatus, _ time.Time) (float64, bool) {
		return float64(s.Epoch), s.Owner != ""
	}},

	{"rigatoni.lag", "s", "Time from the cluster time of the position to now.", highest, since(func(s rigatoni.StreamStatus) time.Time { return s.Position })},
	{"rigatoni.checkpoint.age", "s", "Time since the checkpoint was saved, or covered all that was read.", highest, since(func(s rigatoni.StreamStatus) time.Time { return s.LastSave })},
	{"rigatoni.runway", "s", "How long the oplog will still reach back to the checkpoint; missing where it is unknown.", lowest, func(s rigatoni.StreamStatus, _ time.Time) (float64, bool) {
		return s.Runway.Seconds(), s.RunwayKnown && s.Holder == ""
	}},
	{"rigatoni.server.down", "s", "Time since the MongoDB server stopped answering; 0 while it answers.", highest, failing(func(s rigatoni.StreamStatus) time.Time { return s.Outage })},
	{"rigatoni.store.down", "s", "Time since saves or renewals of the lease began to fail; 0 while they succeed.", highest, failing(func(s rigatoni.StreamStatus) time.Time { return s.StoreFailed })},

	{"rigatoni.events", "{event}", "Events delivered.", counter, count(func(s rigatoni.StreamStatus) uint64 { return s.Events })},
	{"rigatoni.bytes", "By", "Size of the events delivered, as BSON.", counter, count(func(s rigatoni.StreamStatus) uint64 { return s.Bytes })},
	{"rigatoni.batches", "{batch}", "Batches delivered.", counter, count(func(s rigatoni.StreamStatus) uint64 { return s.Batches })},
	{"rigatoni.dropped", "{event}", "Events that the transform did not keep.", counter, count(func(s rigatoni.StreamStatus) uint64 { return s.Dropped })},
	{"rigatoni.in_flight", "{event}", "Events read and not yet covered by the position.", gauge, always(func(s rigatoni.StreamStatus) float64 { return float64(s.InFlight) })},
	{"rigatoni.retries", "{attempt}", "Deliveries that failed and were tried again.", counter, count(func(s rigatoni.StreamStatus) uint64 { return s.Retries })},
	{"rigatoni.refused", "{event}", "Events refused.", counter, count(func(s rigatoni.StreamStatus) uint64 { return s.Refused })},
	{"rigatoni.dead_letters", "{event}", "Refused events written to the dead letters.", counter, count(func(s rigatoni.StreamStatus) uint64 { return s.DeadLetters })},
	{"rigatoni.saves", "{save}", "Checkpoints saved.", counter, count(func(s rigatoni.StreamStatus) uint64 { return s.Saves })},
	{"rigatoni.save.errors", "{save}", "Saves that failed.", counter, count(func(s rigatoni.StreamStatus) uint64 { return s.SaveErrors })},
	{"rigatoni.rewinds", "{rewind}", "How often a stream went back to its checkpoint.", counter, count(func(s rigatoni.StreamStatus) uint64 { return s.Rewinds })},
	{causes, "{interruption}", "How often an open stream was interrupted and reopened, by cause.", counter, nil},

	{"rigatoni.gaps", "{gap}", "Gaps on record in the checkpoint, 100 at most.", gauge, always(func(s rigatoni.StreamStatus) float64 { return float64(s.Gaps) })},
	{"rigatoni.gap.last.timestamp", "s", "When the last gap was recorded, as Unix time; missing without one.", highest, func(s rigatoni.StreamStatus, _ time.Time) (float64, bool) {
		return float64(s.LastGap.At.UnixMilli()) / 1000, s.Gaps > 0
	}},

	{"rigatoni.snapshot.active", "{snapshot}", "Snapshots under way: 1 while what exists is copied.", gauge, always(func(s rigatoni.StreamStatus) float64 { return oneIf(s.Snapshot != nil) })},
	{"rigatoni.snapshot.documents", "{document}", "Documents copied by the snapshot under way; missing without one.", gauge, copying(func(s rigatoni.SnapshotStatus) float64 { return float64(s.Documents) })},
	{"rigatoni.snapshot.documents.estimated", "{document}", "Documents that the snapshot under way has to copy, as estimated when it began; missing without one.", gauge, copying(func(s rigatoni.SnapshotStatus) float64 { return float64(s.DocumentsEstimated) })},
	{"rigatoni.snapshot.bytes", "By", "Size of the documents copied by the snapshot under way, as BSON; missing without one.", gauge, copying(func(s rigatoni.SnapshotStatus) float64 { return float64(s.Bytes) })},
	{"rigatoni.snapshot.collections", "{collection}", "Collections of the snapshot under way; missing without one.", gauge, copying(func(s rigatoni.SnapshotStatus) float64 { return float64(s.CollectionsTotal) })},
	{"rigatoni.snapshot.collections.done", "{collection}", "Collections of the snapshot under way that are copied; missing without one.", gauge, copying(func(s rigatoni.SnapshotStatus) float64 { return float64(s.CollectionsDone) })},
	{"rigatoni.snapshot.eta", "s", "How long the rest of the snapshot takes at the present rate; missing where that is unknown.", highest, func(s rigatoni.StreamStatus, _ time.Time) (float64, bool) {
		if s.Snapshot == nil {
			return 0, false
		}
		return s.Snapshot.ETA.Seconds(), s.Snapshot.ETA > 0
	}},
}

func always(value func(rigatoni.StreamStatus) float64) func(rigatoni.StreamStatus, time.Time) (float64, bool) {
	return func(s rigatoni.StreamStatus, _ time.Time) (float64, bool) { return value(s), true }
}

func count(value func(rigatoni.StreamStatus) uint64) func(rigatoni.StreamStatus, time.Time) (float64, bool) {
	return func(s rigatoni.StreamStatus, _ time.Time) (float64, bool) { return float64(value(s)), true }
}

// copying is a value of the snapshot under way.
func copying(value func(rigatoni.SnapshotStatus) float64) func(rigatoni.StreamStatus, time.Time) (float64, bool) {
	return func(s rigatoni.StreamStatus, _ time.Time) (float64, bool) {
		if s.Snapshot == nil {
			return 0, false
		}
		return value(*s.Snapshot), true
	}
}

// since is the time since t, which is unknown where it is zero, and while another
// process has the lease: that one knows.
func since(t func(rigatoni.StreamStatus) time.Time) func(rigatoni.StreamStatus, time.Time) (float64, bool) {
	return func(s rigatoni.StreamStatus, now time.Time) (float64, bool) {
		return max(0, now.Sub(t(s)).Seconds()), !t(s).IsZero() && s.Holder == ""
	}
}

// failing is the time since t, and 0 where it is zero.
func failing(t func(rigatoni.StreamStatus) time.Time) func(rigatoni.StreamStatus, time.Time) (float64, bool) {
	return func(s rigatoni.StreamStatus, now time.Time) (float64, bool) {
		if t(s).IsZero() {
			return 0, true
		}
		return max(0, now.Sub(t(s)).Seconds()), true
	}
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// instrument makes the instrument of a definition.
func (d definition) instrument(meter metric.Meter) (metric.Float64Observable, error) {
	if d.kind == counter {
		return meter.Float64ObservableCounter(d.name, metric.WithUnit(d.unit), metric.WithDescription(d.help))
	}
	return meter.Float64ObservableGauge(d.name, metric.WithUnit(d.unit), metric.WithDescription(d.help))
}

// merge adds the value of one more stream to that of those before it.
func (d definition) merge(sum, v float64, first bool) float64 {
	switch {
	case first:
		return v
	case d.kind == highest:
		return max(sum, v)
	case d.kind == lowest:
		return min(sum, v)
	}
	return sum + v
}
