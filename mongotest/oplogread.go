package mongotest

import (
	"go.mongodb.org/mongo-driver/v2/bson"
)

// oplogNamespace is where clients look how far back the history goes.
var oplogNamespace = namespace{"local", "oplog.rs"}

// selectOplog reads the oplog as a collection. The entries of a transaction are
// shown one by one, with one time.
func (st *store) selectOplog(sel selection) ([]bson.Raw, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	var docs []bson.Raw
	natural := len(sel.sort) == 1 && sel.sort[0].path[0] == "$natural"
	enough := sel.skip + sel.limit
	for i := range st.oplog.entries {
		if natural && sel.sort[0].descending {
			i = len(st.oplog.entries) - 1 - i
		}
		if doc := st.oplog.entries[i].document(); sel.filter.match(doc) {
			docs = append(docs, doc)
		}
		if (natural || sel.sort == nil) && sel.limit > 0 && len(docs) == enough {
			break
		}
	}
	if natural {
		sel.sort = nil // done
	}
	return sel.cut(docs)
}

func (e *entry) document() bson.Raw {
	op, o, ns := "c", bson.Raw(nil), e.ns.db+".$cmd"
	switch e.kind {
	case opNoop:
		op, o, ns = "n", newBuilder().str("msg", e.note).done(), ""
	case opInsert:
		op, o, ns = "i", e.doc, e.ns.String()
	case opReplace:
		op, o, ns = "u", e.doc, e.ns.String()
	case opUpdate:
		op, o, ns = "u", newBuilder().int32("$v", 2).doc("diff", e.change.description()).done(), e.ns.String()
	case opDelete:
		op, o, ns = "d", e.key, e.ns.String()
	case opDrop:
		o = newBuilder().str("drop", e.ns.coll).done()
	case opRename:
		o = newBuilder().str("renameCollection", e.ns.String()).str("to", e.to.String()).done()
	case opDropDatabase:
		o = newBuilder().int32("dropDatabase", 1).done()
	case opModify:
		o = newBuilder().str("collMod", e.ns.coll).append(e.description).done()
	default:
		o = newBuilder().str(e.kind, e.ns.coll).append(e.description).done()
	}
	d := newBuilder()
	if e.lsid != nil {
		d.doc("lsid", e.lsid).int64("txnNumber", e.txnNumber)
	}
	d.str("op", op).str("ns", ns)
	if e.uuid != [16]byte{} {
		d.binary("ui", bson.TypeBinaryUUID, e.uuid[:])
	}
	d.doc("o", o)
	if op == "u" {
		d.doc("o2", e.key)
	}
	return d.timestamp("ts", e.ts).int64("t", 1).int64("v", 2).date("wall", e.wall).done()
}
