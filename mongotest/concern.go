package mongotest

import (
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
)

// A readConcern is what a command asks of the data that it reads.
type readConcern struct {
	level     string
	at, after bson.Timestamp
}

// checkReadConcern reads the command's read concern, and refuses what does not
// exist. The levels local, available, majority and linearizable have no effect,
// because there is one node.
func (r *request) checkReadConcern() (err error) {
	rc, ok := r.args["readConcern"].DocumentOK()
	if !ok {
		return nil
	}
	if r.concern, err = parseReadConcern(rc); err != nil {
		return err
	}
	if r.inTxn {
		if !r.concern.at.IsZero() {
			return cmderr.Unsupported("the read concern's atClusterTime in a transaction")
		}
		return nil
	}
	if why := r.whyNotLevel(); why != "" {
		given := bsondoc.New().Append(rc).Str("provenance", "clientSupplied").Done()
		return cmderr.Errorf(cmderr.InvalidOptions, "Command %s does not support { readConcern: %s } :: caused by :: %s", r.name, bsondoc.ShellDoc(given), why)
	}
	return r.checkReadTime()
}

func parseReadConcern(doc bson.Raw) (rc readConcern, err error) {
	for _, e := range bsondoc.Fields(doc) {
		v, ok := e.Value(), true
		want := "timestamp"
		switch e.Key() {
		case "level":
			want = "string"
			rc.level, ok = v.StringValueOK()
		case "afterClusterTime":
			rc.after.T, rc.after.I, ok = v.TimestampOK()
		case "atClusterTime":
			rc.at.T, rc.at.I, ok = v.TimestampOK()
		default:
			return rc, cmderr.Errorf(cmderr.InvalidOptions, "Unrecognized option in readConcern: %s", e.Key())
		}
		if !ok {
			return rc, cmderr.Errorf(cmderr.TypeMismatch, "\"%s\" had the wrong type. Expected %s, found %s", e.Key(), want, bsondoc.TypeName(v.Type))
		}
	}
	if rc.level != "" && !slices.Contains([]string{"local", "majority", "linearizable", "available", "snapshot"}, rc.level) {
		return rc, cmderr.Errorf(cmderr.FailedToParse, "readConcern.level must be either 'local', 'majority', 'linearizable', 'available', or 'snapshot'")
	}
	_, noAfter := doc.LookupErr("afterClusterTime")
	_, noAt := doc.LookupErr("atClusterTime")
	why := ""
	switch {
	case noAfter == nil && (rc.level == "available" || rc.level == "linearizable"):
		why = "afterClusterTime field can be set only if level is equal to majority, local, or snapshot"
	case noAt == nil && rc.level != "snapshot":
		why = "atClusterTime field can be set only if level is equal to snapshot"
	case noAt == nil && rc.at.IsZero():
		why = "atClusterTime cannot be a null timestamp"
	case noAfter == nil && rc.after.IsZero():
		why = "afterClusterTime cannot be a null timestamp"
	case noAfter == nil && noAt == nil:
		why = "Specifying a timestamp for readConcern snapshot in a causally consistent session is not allowed. " +
			"See https://docs.mongodb.com/manual/core/read-isolation-consistency-recency/#causal-consistency"
	default:
		return rc, nil
	}
	return rc, cmderr.Errorf(cmderr.InvalidOptions, "%s", why)
}

// whyNotLevel returns the reason why the command can't have the level; empty if
// it can.
func (r *request) whyNotLevel() string {
	level := r.concern.level
	switch {
	case level == "":
	case isWatch(r) && level != "majority":
		return "Aggregation stage $changeStream cannot run with a readConcern other than 'majority'. Current readConcern: " + level
	case !slices.Contains([]string{"find", "aggregate", "distinct", "count"}, r.name):
		if level != "local" {
			return "read concern not supported"
		}
	case level == "snapshot" && r.name == "count":
		return "read concern snapshot not supported"
	}
	return ""
}

// checkReadTime refuses times that are still to come.
func (r *request) checkReadTime() error {
	rc, now := r.concern, r.server.store.lastTime()
	later := func(name string, ts bson.Timestamp) error {
		return cmderr.Errorf(cmderr.InvalidOptions, "readConcern %s value must not be greater than the current clusterTime. "+
			"Requested clusterTime: { ts: Timestamp(%d, %d) }; current clusterTime: { ts: Timestamp(%d, %d) }", name, ts.T, ts.I, now.T, now.I)
	}
	switch {
	case !rc.after.IsZero() && r.name == "ping": // the driver sends it with writes, too
		return cmderr.Errorf(cmderr.InvalidOptions, "afterClusterTime is not allowed for this command")
	case rc.after.After(now):
		return later("afterClusterTime", rc.after)
	case rc.at.After(now):
		return later("atClusterTime", rc.at)
	}
	return nil
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
