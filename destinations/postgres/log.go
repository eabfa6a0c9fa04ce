package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A logSink keeps a row for each event.
type logSink struct{ session *session }

var _ rigatoni.Transactional = (*logSink)(nil)

// Deliver fails: the pipeline calls DeliverAt.
func (l *logSink) Deliver(context.Context, *rigatoni.Batch) error { return errDeliverAt }

// DeliverAt appends a row for each event and saves the checkpoint, in one transaction.
func (l *logSink) DeliverAt(ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
	tables, err := l.collect(ctx, b)
	if err != nil {
		return err
	}
	sink := txSink{store: l.session.d.store, key: l.session.key, fn: l.apply(tables)}
	return l.session.finish(ctx, sink.DeliverAt(ctx, b, f, cp), b)
}

// apply writes the rows in a transaction.
func (l *logSink) apply(tables []*logRows) TxFunc {
	return func(ctx context.Context, tx pgx.Tx, _ *rigatoni.Batch) error {
		for _, rows := range tables {
			if err := l.write(ctx, tx, rows); err != nil {
				return err
			}
		}
		return nil
	}
}

// logRows are the rows of a table, in the format of COPY.
type logRows struct {
	table *table
	rows  int
	data  []byte
}

// collect makes the rows of a batch.
func (l *logSink) collect(ctx context.Context, b *rigatoni.Batch) (all []*logRows, err error) {
	of := map[*table]*logRows{}
	var buf []byte
	last := l.session.last
	defer func() { l.session.last = last }()
	for _, ev := range b.Events {
		if buf, err = l.add(ctx, of, &all, ev, buf[:0]); err != nil {
			return nil, err
		}
		l.session.last = ev.ClusterTime()
	}
	return all, nil
}

func (l *logSink) add(ctx context.Context, of map[*table]*logRows, all *[]*logRows, ev rigatoni.Event, buf []byte) ([]byte, error) {
	switch {
	case skipped[ev.OperationType()]:
		return buf, nil
	case ev.DocumentKey() == nil:
		_, err := l.session.dropped(ctx, ev)
		return buf, err
	}
	t, err := l.session.table(ctx, ev.Namespace())
	if err != nil {
		return buf, err
	}
	r, buf, err := l.session.rowOf(ev, t, buf)
	if err != nil {
		return buf, err
	}
	rows := of[t]
	if rows == nil {
		rows = &logRows{table: t, data: append([]byte(nil), copyHeader...)}
		of[t] = rows
		*all = append(*all, rows)
	}
	rows.add(r)
	return buf, nil
}

// copyHeader begins the binary format of COPY:
// https://www.postgresql.org/docs/current/sql-copy.html
var copyHeader = []byte("PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00")

// copyTrailer is a tuple of -1 columns.
var copyTrailer = []byte{0xff, 0xff}

// epoch is the time 0 of PostgreSQL.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// add appends a tuple of _id, doc, op, cluster_time and version.
func (l *logRows) add(r row) {
	l.rows++
	l.data = binary.BigEndian.AppendUint16(l.data, 5)
	l.data = appendField(l.data, r.id)
	if r.doc == nil {
		l.data = binary.BigEndian.AppendUint32(l.data, ^uint32(0))
	} else { // jsonb is sent as text behind its version
		l.data = append(binary.BigEndian.AppendUint32(l.data, uint32(len(r.doc)+1)), 1)
		l.data = append(l.data, r.doc...)
	}
	l.data = appendField(l.data, r.op)
	l.data = binary.BigEndian.AppendUint32(l.data, 8)
	l.data = binary.BigEndian.AppendUint64(l.data, uint64(r.at.Sub(epoch).Microseconds()))
	l.data = appendField(l.data, r.version)
}

func appendField[T string | []byte](dst []byte, v T) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(v))), v...)
}

func (l *logSink) write(ctx context.Context, tx pgx.Tx, rows *logRows) error {
	statement := "copy " + rows.table.name.String() + " (_id, doc, op, cluster_time, version) from stdin (format binary)"
	data := append(rows.data, copyTrailer...)
	if _, err := tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(data), statement); err != nil {
		return &writeError{rows.table, err}
	}
	return nil
}
