package mongotest

import (
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
)

// oplogNamespace is where clients look up how far back the history goes.
var oplogNamespace = namespace{"local", "oplog.rs"}

// selectOplog reads the oplog as a collection. The entries of a transaction
// appear as separate documents with the same time.
func (st *store) selectOplog(sel selection) ([]bson.Raw, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	var docs []bson.Raw
	natural := len(sel.sort) == 1 && sel.sort[0].Path[0] == "$natural"
	enough := sel.skip + sel.limit
	for i := range st.oplog.entries {
		if natural && sel.sort[0].Descending {
			i = len(st.oplog.entries) - 1 - i
		}
		if doc := st.oplog.entries[i].document(); sel.filter.Match(doc) {
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
		op, o, ns = "n", bsondoc.New().Str("msg", e.note).Done(), ""
	case opInsert:
		op, o, ns = "i", e.doc, e.ns.String()
	case opReplace:
		op, o, ns = "u", e.doc, e.ns.String()
	case opUpdate:
		op, o, ns = "u", bsondoc.New().Int32("$v", 2).Doc("diff", e.change.Description()).Done(), e.ns.String()
	case opDelete:
		op, o, ns = "d", e.key, e.ns.String()
	case opDrop:
		o = bsondoc.New().Str("drop", e.ns.coll).Done()
	case opRename:
		o = bsondoc.New().Str("renameCollection", e.ns.String()).Str("to", e.to.String()).Done()
	case opDropDatabase:
		o = bsondoc.New().Int32("dropDatabase", 1).Done()
	case opModify:
		o = bsondoc.New().Str("collMod", e.ns.coll).Append(e.description).Done()
	default:
		o = bsondoc.New().Str(e.kind, e.ns.coll).Append(e.description).Done()
	}
	d := bsondoc.New()
	if e.lsid != nil {
		d.Doc("lsid", e.lsid).Int64("txnNumber", e.txnNumber)
	}
	d.Str("op", op).Str("ns", ns)
	if e.uuid != [16]byte{} {
		d.Binary("ui", bson.TypeBinaryUUID, e.uuid[:])
	}
	d.Doc("o", o)
	if op == "u" {
		d.Doc("o2", e.key)
	}
	return d.Timestamp("ts", e.ts).Int64("t", 1).Int64("v", 2).Date("wall", e.wall).Done()
}
