package mongotest

import (
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// checkReadConcern refuses read concerns that make a difference.
func (r *request) checkReadConcern() error {
	rc, ok := r.args["readConcern"].DocumentOK()
	if !ok {
		return nil
	}
	for _, e := range fields(rc) {
		switch e.Key() {
		case "level", "afterClusterTime":
		case "atClusterTime":
			return notImitated("the read concern's atClusterTime")
		default:
			return failf(codeInvalidOptions, "Unrecognized option in readConcern: %s", e.Key())
		}
	}
	level, given := rc.Lookup("level").StringValueOK()
	why := ""
	switch {
	case !given:
	case !slices.Contains([]string{"local", "majority", "linearizable", "available", "snapshot"}, level):
		return failf(codeFailedToParse, "readConcern.level must be either 'local', 'majority', 'linearizable', 'available', or 'snapshot'")
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
		return notImitated("the read concern snapshot but in transactions")
	}
	if why == "" {
		return nil
	}
	return failf(codeInvalidOptions, "Command %s does not support { readConcern: { level: \"%s\", provenance: \"clientSupplied\" } } :: caused by :: %s", r.name, level, why)
}

// writeConcernError is about a write concern that one node can't fulfil; nil if
// it can.
func (r *request) writeConcernError() bson.Raw {
	wc, ok := r.args["writeConcern"].DocumentOK()
	if !ok || !r.cmd.write {
		return nil
	}
	var e *commandError
	w := wc.Lookup("w")
	nodes, _ := asInt(w)
	mode, _ := w.StringValueOK()
	switch {
	case nodes > 1:
		e = failf(100, "Not enough data-bearing nodes")
	case mode != "" && mode != "majority":
		e = failf(79, "No write concern mode named '%s' found in replica set configuration", mode)
	default:
		return nil
	}
	asked := newBuilder().value("w", w)
	if j := wc.Lookup("j"); j.Type != 0 {
		asked.value("j", j)
	}
	wait, _ := asInt(wc.Lookup("wtimeout"))
	asked.int32("wtimeout", int(wait)).str("provenance", "clientSupplied")
	info := newBuilder().doc("writeConcern", asked.done()).done()
	return newBuilder().int32("code", e.code).str("codeName", codeName(e.code)).str("errmsg", e.msg).doc("errInfo", info).done()
}
