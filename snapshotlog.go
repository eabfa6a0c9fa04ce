package rigatoni

import (
	"log/slog"
	"time"
)

// snapshotEvery is how often the progress of a copy is logged.
const snapshotEvery = 30 * time.Second

// A snapshotLog logs the beginning, the progress and the end of a copy, as its state is
// saved. It is the checkpointer's.
type snapshotLog struct {
	log     *slog.Logger
	stream  SnapshotReporter // nil: there are no figures
	figures SnapshotStatus   // the last that were not zero
	logged  time.Time
}

func newSnapshotLog(stream Stream, log *slog.Logger) snapshotLog {
	r, _ := stream.(SnapshotReporter)
	return snapshotLog{log: log, stream: r, logged: time.Now()}
}

// begun logs that a copy begins, or goes on after an earlier session. One that somebody
// asked for in the checkpoint begins now, and nobody has estimated it.
func (l *snapshotLog) begun(resumed bool) {
	s := l.read()
	message, attrs := "snapshot begins", []any{"collections", s.CollectionsTotal}
	if resumed && s.CollectionsDone+int(s.Documents) > 0 {
		message, attrs = "snapshot resumes", append(attrs, "collections_done", s.CollectionsDone, "documents", s.Documents)
	}
	if s.DocumentsEstimated > 0 {
		attrs = append(attrs, "documents_estimated", s.DocumentsEstimated, "bytes_estimated", s.BytesEstimated)
	}
	l.log.Info(message, attrs...)
}

// saved logs what has to be logged after a save.
func (l *snapshotLog) saved(copying bool) {
	s := l.read()
	switch {
	case !copying:
		l.log.Info("snapshot ended", "collections", s.CollectionsTotal, "documents", s.Documents, "bytes", s.Bytes, "took_seconds", s.took().Seconds())
	case time.Since(l.logged) >= snapshotEvery:
		l.logged = time.Now()
		l.log.Info("snapshot progress", "collections", s.CollectionsTotal, "collections_done", s.CollectionsDone, "documents", s.Documents,
			"documents_estimated", s.DocumentsEstimated, "documents_per_second", s.Rate, "eta_seconds", s.ETA.Seconds())
	}
}

// took is how long the copy has taken so far; 0 if unknown.
func (s SnapshotStatus) took() time.Duration {
	if s.Began.IsZero() {
		return 0
	}
	return time.Since(s.Began).Round(time.Millisecond)
}

func (l *snapshotLog) read() SnapshotStatus {
	if l.stream != nil {
		if s, ok := l.stream.Snapshot(); ok || s.CollectionsTotal > 0 {
			l.figures = s
		}
	}
	return l.figures
}
