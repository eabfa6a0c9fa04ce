package mongotest

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// cursors are the open ones.
type cursors struct {
	mu   sync.Mutex
	byID map[int64]*cursor
}

// A cursor returns a list of documents, or the events of a change stream.
type cursor struct {
	id      int64
	ns      namespace
	session string // in which it was opened; empty for none
	rest    []bson.Raw
	stream  *stream
	uuid    [16]byte       // of a list from a collection
	at      bson.Timestamp // of a list from a snapshot

	busy   bool
	killed chan struct{}
}

func cursorCommands() map[string]*command {
	return map[string]*command{
		"aggregate": {run: aggregate, read: true, txn: true,
			fields: []string{"pipeline", "cursor", "allowDiskUse", "bypassDocumentValidation", "hint", "$_generateV2ResumeTokens"},
			others: []string{"collation", "let", "explain"}},
		"getMore":     {run: getMore, txn: true, fields: []string{"collection", "batchSize", "term", "lastKnownCommittedOpTime"}},
		"killCursors": {run: killCursors, fields: []string{"cursors"}},
	}
}

func (cs *cursors) add(c *cursor) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.byID == nil {
		cs.byID = map[int64]*cursor{}
	}
	for c.id == 0 || cs.byID[c.id] != nil {
		c.id = rand.Int64N(1<<62) + 1
	}
	c.killed = make(chan struct{})
	cs.byID[c.id] = c
}

// take reserves a cursor for one getMore.
func (cs *cursors) take(id int64, ns namespace, session string) (*cursor, error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c := cs.byID[id]
	switch {
	case c == nil:
		return nil, cmderr.Errorf(cmderr.CursorNotFound, "cursor id %d not found", id)
	case c.busy:
		return nil, cmderr.Errorf(cmderr.CursorInUse, "cursor id %d is already in use", id)
	case c.ns != ns:
		return nil, cmderr.Errorf(cmderr.Unauthorized, "Requested getMore on namespace '%s', but cursor belongs to a different namespace %s", ns, c.ns)
	}
	if err := c.checkSession(session); err != nil {
		return nil, err
	}
	c.busy = true
	return c, nil
}

// checkSession refuses a getMore in another session than the cursor's.
func (c *cursor) checkSession(session string) error {
	switch {
	case c.session == session:
		return nil
	case c.session == "":
		return cmderr.Errorf(50736, "Cannot run getMore on cursor %d, which was not created in a session, in session %s", c.id, sessionText(session))
	case session == "":
		return cmderr.Errorf(50737, "Cannot run getMore on cursor %d, which was created in session %s, without an lsid", c.id, sessionText(c.session))
	}
	return cmderr.Errorf(50738, "Cannot run getMore on cursor %d, which was created in session %s, in session %s", c.id, sessionText(c.session), sessionText(session))
}

func (cs *cursors) release(c *cursor, gone bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c.busy = false
	if gone {
		delete(cs.byID, c.id)
	}
}

// kill closes the cursors that which selects, and wakes the getMores that wait
// for them.
func (cs *cursors) kill(which func(*cursor) bool) (killed []int64) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for id, c := range cs.byID {
		if which(c) {
			delete(cs.byID, id)
			close(c.killed)
			killed = append(killed, id)
		}
	}
	return killed
}

func (r *request) sessionName() string {
	if r.lsid == nil {
		return ""
	}
	id, _ := sessionID(r.lsid) // openSession has checked it
	return id
}

const firstBatch = 101

// batchSize returns the one in the command or in its cursor document. A default
// limits only the first batch.
func (r *request) batchSize() (n int, given bool, err error) {
	v, ok := r.args["batchSize"]
	if c, isDoc := r.args["cursor"].DocumentOK(); isDoc {
		if bv, err := c.LookupErr("batchSize"); err == nil {
			v, ok = bv, true
		}
	}
	if !ok || v.Type == bson.TypeNull {
		return firstBatch, false, nil
	}
	size, isInt := bsondoc.Int(v)
	if !isInt {
		return 0, false, r.wrongType("batchSize", v, "long")
	}
	if size < 0 {
		return 0, false, cmderr.Errorf(cmderr.Negative, "BSON field 'batchSize' value must be >= 0, actual value '%d'", size)
	}
	return int(size), true, nil
}

// openListing is openList with the reply's fields in the other order that
// servers use.
func (r *request) openListing(ns namespace, docs []bson.Raw) (*bsondoc.Builder, error) {
	reply, err := r.openList(ns, docs)
	if err != nil {
		return nil, err
	}
	cursor := reply.Done().Lookup("cursor").Document()
	d := bsondoc.New()
	at := d.Open(bson.TypeEmbeddedDocument, "cursor")
	for _, name := range []string{"id", "ns", "firstBatch"} {
		d.Value(name, cursor.Lookup(name))
	}
	return d.Close(at), nil
}

// openList replies with the first documents of a list, and with a cursor for
// the rest.
func (r *request) openList(ns namespace, docs []bson.Raw) (*bsondoc.Builder, error) {
	return r.openCursor(&cursor{ns: ns}, docs)
}

func (r *request) openCursor(c *cursor, docs []bson.Raw) (*bsondoc.Builder, error) {
	n, _, err := r.batchSize()
	if err != nil {
		return nil, err
	}
	var batch []bson.Raw
	c.session = r.sessionName()
	batch, c.rest = fill(docs, n)
	if len(c.rest) > 0 && !r.flag("singleBatch", false) {
		r.server.cursors.add(c)
	}
	return c.reply("firstBatch", false, batch, nil), nil
}

// fill returns as many documents as fit into a batch, in number and in bytes.
func fill(docs []bson.Raw, n int) (batch, rest []bson.Raw) {
	size := 0
	for i, doc := range docs {
		if i == n || i > 0 && size+len(doc) > bsondoc.MaxSize {
			return docs[:i], docs[i:]
		}
		size += len(doc)
	}
	return docs, nil
}

// reply returns a batch; at the end the client gets cursor id 0.
func (c *cursor) reply(field string, end bool, batch []bson.Raw, more func(*bsondoc.Builder)) *bsondoc.Builder {
	id := c.id
	if end {
		id = 0
	}
	d := bsondoc.New()
	at := d.Open(bson.TypeEmbeddedDocument, "cursor")
	d.Grow(sizeOf(batch))
	d.Docs(field, batch)
	if more != nil {
		more(d)
	}
	d.Int64("id", id).Str("ns", c.ns.String())
	if !c.at.IsZero() {
		d.Timestamp("atClusterTime", c.at)
	}
	return d.Close(at)
}

func sizeOf(docs []bson.Raw) int {
	n := 256
	for _, doc := range docs {
		n += len(doc) + 8
	}
	return n
}

func getMore(r *request) (*bsondoc.Builder, error) {
	id, ok := r.args["getMore"].Int64OK()
	if !ok {
		return nil, cmderr.Errorf(cmderr.TypeMismatch, "BSON field 'getMore.getMore' is the wrong type '%s', expected type 'long'", bsondoc.TypeName(r.args["getMore"].Type))
	}
	coll, ok := r.args["collection"].StringValueOK()
	if !ok {
		return nil, cmderr.Missing("getMore", "collection")
	}
	n, given, err := r.batchSize()
	if err != nil {
		return nil, err
	}
	if !given || n == 0 {
		n = -1 // as many as fit
	}
	wait, err := r.maxTime()
	if err != nil {
		return nil, err
	}
	c, err := r.server.cursors.take(id, namespace{r.db, coll}, r.sessionName())
	if err != nil {
		return nil, err
	}
	if code := r.server.failPoints.afterCheckout(); code != 0 {
		r.server.cursors.release(c, true)
		e := cmderr.Errorf(code, "Hit the 'failGetMoreAfterCursorCheckout' failpoint")
		return nil, e.Label(streamLabels(code)...)
	}
	_, waits := r.args["maxTimeMS"]
	if c.stream == nil {
		if waits {
			r.server.cursors.release(c, false)
			return nil, cmderr.Errorf(cmderr.BadValue, "cannot set maxTimeMS on getMore command for a non-awaitData cursor")
		}
		return r.listBatch(c, n)
	}
	if !waits {
		wait = defaultAwait
	}
	reply, gone, err := r.streamBatch(c, n, wait)
	r.server.cursors.release(c, gone)
	return reply, err
}

func (r *request) listBatch(c *cursor, n int) (*bsondoc.Builder, error) {
	if err := r.server.store.survives(c); err != nil {
		r.server.cursors.release(c, true)
		return nil, err
	}
	var batch []bson.Raw
	batch, c.rest = fill(c.rest, n)
	r.server.cursors.release(c, len(c.rest) == 0)
	return c.reply("nextBatch", len(c.rest) == 0, batch, nil), nil
}

// survives returns the error of a list whose collection has been dropped or
// renamed since it was opened.
func (st *store) survives(c *cursor) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	now := st.colls[c.ns]
	if c.uuid == [16]byte{} || now != nil && now.uuid == c.uuid {
		return nil
	}
	if now != nil && !c.at.IsZero() {
		if err := st.readable(now, c.at); err != nil {
			return err
		}
	}
	for _, other := range st.colls {
		if other.uuid == c.uuid {
			return cmderr.Errorf(cmderr.QueryPlanKilled, "collection renamed from '%s' to '%s'. UUID %s", c.ns, other.ns, bsonUUID(c.uuid))
		}
	}
	return cmderr.Errorf(cmderr.QueryPlanKilled, "collection dropped. UUID %s", bsonUUID(c.uuid))
}

// defaultAwait is how long a getMore of a change stream waits for events
// without a maxTimeMS.
const defaultAwait = time.Second

// streamBatch waits for events. gone reports whether the cursor is exhausted.
func (r *request) streamBatch(c *cursor, n int, wait time.Duration) (reply *bsondoc.Builder, gone bool, err error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for late := false; ; {
		batch, grown, err := r.server.store.read(c.stream, n)
		if err != nil {
			return nil, true, cmderr.From(err).Prefixed("Executor error during getMore :: caused by :: ")
		}
		if len(batch) > 0 || late || c.stream.ended {
			return c.reply("nextBatch", c.stream.ended, batch, c.stream.fields), c.stream.ended, nil
		}
		select {
		case <-grown:
		case <-timer.C:
			late = true
		case <-c.killed:
			return nil, true, cmderr.Errorf(cmderr.CursorKilled, "Executor error during getMore :: caused by :: operation was interrupted")
		case <-r.conn.gone:
			return nil, false, errHangUp
		case <-r.server.stop:
			return nil, false, errHangUp
		}
	}
}

func killCursors(r *request) (*bsondoc.Builder, error) {
	var asked []int64
	if r.args["cursors"].Type != bson.TypeArray {
		return nil, r.wrongType("cursors", r.args["cursors"], "array")
	}
	for _, v := range bsondoc.Items(r.args["cursors"]) {
		id, ok := v.Int64OK()
		if !ok {
			return nil, cmderr.Errorf(cmderr.TypeMismatch, "BSON field 'killCursors.cursors.%d' is the wrong type '%s', expected type 'long'", len(asked), bsondoc.TypeName(v.Type))
		}
		asked = append(asked, id)
	}
	killed := r.server.cursors.kill(func(c *cursor) bool { return slices.Contains(asked, c.id) })
	var were, unknown []bson.RawValue
	for _, id := range asked {
		if slices.Contains(killed, id) {
			were = append(were, bsondoc.Int64(id))
		} else {
			unknown = append(unknown, bsondoc.Int64(id))
		}
	}
	return bsondoc.New().Values("cursorsKilled", were).Values("cursorsNotFound", unknown).Values("cursorsAlive", nil).Values("cursorsUnknown", nil), nil
}
