package mongotest

import (
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// checkReadConcern refuses read concerns that would have an effect.
func (r *request) checkReadConcern() error {
	rc, ok := r.args["readConcern"].DocumentOK()
	if !ok {
		return nil
	}
	for _, e := range bsondoc.Fields(rc) {
		switch e.Key() {
		case "level", "afterClusterTime":
		case "atClusterTime":
			return cmderr.Unsupported("the read concern's atClusterTime")
		default:
			return cmderr.Errorf(cmderr.InvalidOptions, "Unrecognized option in readConcern: %s", e.Key())
		}
	}
	level, given := rc.Lookup("level").StringValueOK()
	why := ""
	switch {
	case !given:
	case !slices.Contains([]string{"local", "majority", "linearizable", "available", "snapshot"}, level):
		return cmderr.Errorf(cmderr.FailedToParse, "readConcern.level must be either 'local', 'majority', 'linearizable', 'available', or 'snapshot'")
	case r.inTxn:
	case isWatch(r) && level != "majority":
		why = "Aggregation stage $changeStream cannot run with a readConcern other than 'majority'. Current readConcern: " + level
	case !slices.Contains([]string{"find", "aggregate", "distinct", "count"}, r.name):
		if level != "local" {
			why = "read concern not supported"
		}
	case level == "snapshot" && r.name == "count":
		why = "read concern snapshot not supported"
	case level == "snapshot":
		return cmderr.Unsupported("the read concern snapshot outside of transactions")
	}
	if why == "" {
		return nil
	}
	return cmderr.Errorf(cmderr.InvalidOptions, "Command %s does not support { readConcern: { level: \"%s\", provenance: \"clientSupplied\" } } :: caused by :: %s", r.name, level, why)
}

// writeConcernError returns the error for a write concern that one node can't
// satisfy.
func (r *request) writeConcernError() bson.Raw {
	wc, ok := r.args["writeConcern"].DocumentOK()
	if !ok || !r.cmd.write {
		return nil
	}
	var e *cmderr.Error
	w := wc.Lookup("w")
	nodes, _ := bsondoc.Int(w)
	mode, _ := w.StringValueOK()
	switch {
	case nodes > 1:
		e = cmderr.Errorf(100, "Not enough data-bearing nodes")
	case mode != "" && mode != "majority":
		e = cmderr.Errorf(79, "No write concern mode named '%s' found in replica set configuration", mode)
	default:
		return nil
	}
	asked := bsondoc.New().Value("w", w)
	if j := wc.Lookup("j"); j.Type != 0 {
		asked.Value("j", j)
	}
	wait, _ := bsondoc.Int(wc.Lookup("wtimeout"))
	asked.Int32("wtimeout", int(wait)).Str("provenance", "clientSupplied")
	info := bsondoc.New().Doc("writeConcern", asked.Done()).Done()
	return bsondoc.New().Int32("code", e.Code).Str("codeName", cmderr.Name(e.Code)).Str("errmsg", e.Msg).Doc("errInfo", info).Done()
}
