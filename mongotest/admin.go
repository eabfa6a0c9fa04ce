package mongotest

import (
	"os"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func adminCommands() map[string]*command {
	all := map[string]*command{
		"ping":             {run: ok},
		"buildInfo":        {run: buildInfo},
		"getParameter":     {run: getParameter},
		"getCmdLineOpts":   {run: getCmdLineOpts},
		"serverStatus":     {run: serverStatus},
		"replSetGetConfig": {run: replSetGetConfig},
		"endSessions":      {run: endSessions},
		"killSessions":     {run: killSessions},
		"killAllSessions":  {run: killSessions},
		"hello":            {run: hello},
		"isMaster":         {run: hello},
	}
	all["ismaster"] = all["isMaster"]
	all["buildinfo"] = all["buildInfo"]
	return all
}

func ok(*request) (*builder, error) { return newBuilder(), nil }

func buildInfo(*request) (*builder, error) {
	d := newBuilder().str("version", serverVersion).strings("modules", nil)
	d.values("versionArray", int32Values(6, 0, 27, 0))
	return d.int32("bits", 64).bool("debug", false).int32("maxBsonObjectSize", maxDocumentSize).
		strings("storageEngines", []string{"mongotest"}), nil
}

func int32Values(list ...int) []bson.RawValue {
	var out []bson.RawValue
	for _, n := range list {
		out = append(out, intValue(int32(n)))
	}
	return out
}

// getParameter has the one parameter that test runners ask for, by its name or
// among all that there are.
func getParameter(r *request) (*builder, error) {
	if r.db != "admin" {
		return nil, failf(codeUnauthorized, "getParameter may only be run against the admin database.")
	}
	all, _ := r.args[r.name].StringValueOK()
	asked := all == "*"
	for _, e := range fields(r.body)[1:] {
		switch {
		case e.Key() == "enableTestCommands":
			asked = true
		case !slices.Contains(everyCommand, e.Key()):
			return nil, notImitated("the parameter '" + e.Key() + "'")
		}
	}
	if _, isDoc := r.args[r.name].DocumentOK(); isDoc || !asked {
		return nil, notImitated("getParameter without the name of a parameter")
	}
	return newBuilder().bool("enableTestCommands", true), nil
}

func getCmdLineOpts(*request) (*builder, error) {
	return newBuilder().strings("argv", os.Args[:1]).doc("parsed", emptyDoc), nil
}

func serverStatus(r *request) (*builder, error) {
	d := newBuilder().str("host", r.server.name).str("version", serverVersion).str("process", "mongotest")
	at := d.open(bson.TypeEmbeddedDocument, "storageEngine")
	d.str("name", "mongotest")
	return d.close(at), nil
}

// replSetGetConfig has the identity of the replica set, and its one member.
func replSetGetConfig(r *request) (*builder, error) {
	t := &r.server.topology
	d := newBuilder()
	config := d.open(bson.TypeEmbeddedDocument, "config")
	d.str("_id", replicaSetName).int32("version", 1).int32("term", 1)
	d.docs("members", []bson.Raw{newBuilder().int32("_id", 0).str("host", r.server.name).done()})
	settings := d.open(bson.TypeEmbeddedDocument, "settings")
	d.oid("replicaSetId", t.replicaSetID).close(settings)
	return d.close(config), nil
}
