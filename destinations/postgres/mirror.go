package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A mirrorSink keeps a row for each document.
type mirrorSink struct{ session *session }

var (
	_ rigatoni.Transactional = (*mirrorSink)(nil)
	_ rigatoni.Sweeper       = (*mirrorSink)(nil)
)

// Deliver fails: the pipeline calls DeliverAt.
func (m *mirrorSink) Deliver(context.Context, *rigatoni.Batch) error { return errDeliverAt }

// DeliverAt writes the last row of each document in the batch, and the checkpoint, in
// one transaction. Only what a dropped collection leaves is deleted before that.
func (m *mirrorSink) DeliverAt(ctx context.Context, b *rigatoni.Batch, f state.Fence, cp state.Checkpoint) error {
	c, err := m.collect(ctx, b)
	if err != nil {
		return err
	}
	for _, w := range c.sweeps {
		if err := m.session.run(ctx, w); err != nil {
			return err
		}
	}
	sink := txSink{store: m.session.d.store, key: m.session.key, fn: m.apply(c)}
	return m.session.finish(ctx, sink.DeliverAt(ctx, b, f, cp), b)
}

// apply writes the rows in a transaction.
func (m *mirrorSink) apply(c *changes) TxFunc {
	return func(ctx context.Context, tx pgx.Tx, _ *rigatoni.Batch) error {
		for _, rows := range c.tables {
			if err := m.write(ctx, tx, rows); err != nil {
				return err
			}
		}
		return nil
	}
}

// Sweep deletes the rows of a collection that its copy has not found, or marks them as
// deleted. Rows without a version are none of the pipeline's.
func (m *mirrorSink) Sweep(ctx context.Context, end rigatoni.SnapshotEnd) error {
	s := m.session
	tables, err := s.claimedBy(ctx, func(c claim) bool { return c.ns == s.claimOf(end.Namespace).ns })
	if err != nil {
		return err
	}
	before := tokenVersion(end.Began, bson.Timestamp{})
	for _, t := range tables {
		if err := s.run(ctx, sweep{t, before, timeOf(before)}); err != nil {
			return err
		}
	}
	return nil
}

// changes are what becomes of a batch.
type changes struct {
	sweeps []sweep
	tables []*mirrorRows
	of     map[*table]*mirrorRows
}

// mirrorRows are the last rows of the documents of a table.
type mirrorRows struct {
	table *table
	rows  []row
	at    map[string]int // of rows, by _id
}

// collect makes the rows of a batch.
func (m *mirrorSink) collect(ctx context.Context, b *rigatoni.Batch) (*changes, error) {
	c := &changes{of: map[*table]*mirrorRows{}}
	buf := make([]byte, 0, b.Bytes+b.Bytes/4)
	last := m.session.last
	for _, ev := range b.Events {
		if err := m.add(ctx, c, ev, &buf); err != nil {
			m.session.last = last
			return nil, err
		}
		m.session.last = ev.ClusterTime()
	}
	m.session.last = last
	return c, nil
}

func (m *mirrorSink) add(ctx context.Context, c *changes, ev rigatoni.Event, buf *[]byte) error {
	switch {
	case skipped[ev.OperationType()]:
		return nil
	case ev.DocumentKey() == nil:
		tables, err := m.session.dropped(ctx, ev)
		for _, t := range tables {
			c.empty(sweep{t, versionOf(ev), time.Unix(int64(ev.ClusterTime().T), 0)}, m.session.d.opts.SoftDelete)
		}
		return err
	}
	t, err := m.session.table(ctx, ev.Namespace())
	if err != nil {
		return err
	}
	r, rest, err := m.session.rowOf(ev, t, *buf)
	*buf = rest
	if err != nil || r.doc == nil && r.op != "delete" {
		return err
	}
	c.rowsOf(t).put(r, m.session.d.opts.SoftDelete)
	return nil
}

func (c *changes) rowsOf(t *table) *mirrorRows {
	rows := c.of[t]
	if rows == nil {
		rows = &mirrorRows{table: t, at: map[string]int{}}
		c.of[t] = rows
		c.tables = append(c.tables, rows)
	}
	return rows
}

// empty has the rows of a table deleted, those that are there and those of the batch.
func (c *changes) empty(w sweep, soft bool) {
	c.sweeps = append(c.sweeps, w)
	for _, rows := range c.tables {
		if rows.table.name == w.table.name {
			for _, r := range rows.rows {
				rows.put(row{id: r.id, op: "delete", at: w.at, version: w.before}, soft)
			}
		}
	}
}

// put has r replace the row of the same document. A soft delete keeps its document.
func (m *mirrorRows) put(r row, soft bool) {
	i, known := m.at[r.id]
	if !known {
		m.at[r.id] = len(m.rows)
		m.rows = append(m.rows, r)
		return
	}
	if soft && r.op == "delete" {
		r.doc = m.rows[i].doc
	}
	m.rows[i] = r
}

// Rows are written by their version: one that is there already and is later, as after a
// checkpoint was set back, stays.
const (
	upsertRows = ` as t (_id, doc, op, cluster_time, version)
		select i, d::jsonb, o, c, v from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::bytea[]) as u(i, d, o, c, v)
		on conflict (_id) do update set doc = excluded.doc, op = excluded.op, cluster_time = excluded.cluster_time, version = excluded.version
		where (t.version <= excluded.version) is not false`
	upsertRowsSoftly = ` as t (_id, doc, op, cluster_time, version)
		select i, d::jsonb, o, c, v from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::bytea[]) as u(i, d, o, c, v)
		on conflict (_id) do update set doc = case excluded.op when 'delete' then coalesce(excluded.doc, t.doc) else excluded.doc end,
			op = excluded.op, cluster_time = excluded.cluster_time, version = excluded.version
		where (t.version <= excluded.version) is not false`
	deleteRows = ` as t using unnest($1::text[], $2::bytea[]) as u(i, v) where t._id = u.i and (t.version <= u.v) is not false`
)

// columns are rows as the parameters of a statement.
type columns struct {
	ids      []string
	docs     []pgtype.Text
	ops      []string
	at       []time.Time
	versions [][]byte
}

func (c *columns) add(r row) {
	c.ids = append(c.ids, r.id)
	c.docs = append(c.docs, pgtype.Text{String: string(r.doc), Valid: r.doc != nil})
	c.ops = append(c.ops, r.op)
	c.at = append(c.at, r.at)
	c.versions = append(c.versions, r.version)
}

func (m *mirrorSink) write(ctx context.Context, tx pgx.Tx, rows *mirrorRows) error {
	var put, gone columns
	for _, r := range rows.rows {
		if r.op == "delete" && !m.session.d.opts.SoftDelete {
			gone.add(r)
		} else {
			put.add(r)
		}
	}
	upsert := upsertRows
	if m.session.d.opts.SoftDelete {
		upsert = upsertRowsSoftly
	}
	name := rows.table.name.String()
	if len(put.ids) > 0 {
		if _, err := tx.Exec(ctx, "insert into "+name+upsert, put.ids, put.docs, put.ops, put.at, put.versions); err != nil {
			return &writeError{rows.table, err}
		}
	}
	if len(gone.ids) > 0 {
		if _, err := tx.Exec(ctx, "delete from "+name+deleteRows, gone.ids, gone.versions); err != nil {
			return &writeError{rows.table, err}
		}
	}
	return nil
}
