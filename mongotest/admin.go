package mongotest

import (
	"os"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/mongotest/internal/cmderr"
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

func ok(*request) (*bsondoc.Builder, error) { return bsondoc.New(), nil }

func buildInfo(*request) (*bsondoc.Builder, error) {
	d := bsondoc.New().Str("version", serverVersion).Strings("modules", nil)
	d.Values("versionArray", int32Values(6, 0, 27, 0))
	return d.Int32("bits", 64).Bool("debug", false).Int32("maxBsonObjectSize", bsondoc.MaxSize).
		Strings("storageEngines", []string{"mongotest"}), nil
}

func int32Values(list ...int) []bson.RawValue {
	var out []bson.RawValue
	for _, n := range list {
		out = append(out, bsondoc.Int32(int32(n)))
	}
	return out
}

// getParameter supports only the parameter that test runners read, by its name
// or with "*".
func getParameter(r *request) (*bsondoc.Builder, error) {
	if r.db != "admin" {
		return nil, cmderr.Errorf(cmderr.Unauthorized, "getParameter may only be run against the admin database.")
	}
	all, _ := r.args[r.name].StringValueOK()
	asked := all == "*"
	for _, e := range bsondoc.Fields(r.body)[1:] {
		switch {
		case e.Key() == "enableTestCommands":
			asked = true
		case !slices.Contains(everyCommand, e.Key()):
			return nil, cmderr.Unsupported("the parameter '" + e.Key() + "'")
		}
	}
	if _, isDoc := r.args[r.name].DocumentOK(); isDoc || !asked {
		return nil, cmderr.Unsupported("getParameter without the name of a parameter")
	}
	return bsondoc.New().Bool("enableTestCommands", true), nil
}

func getCmdLineOpts(*request) (*bsondoc.Builder, error) {
	return bsondoc.New().Strings("argv", os.Args[:1]).Doc("parsed", bsondoc.Empty), nil
}

func serverStatus(r *request) (*bsondoc.Builder, error) {
	d := bsondoc.New().Str("host", r.server.name).Str("version", serverVersion).Str("process", "mongotest")
	at := d.Open(bson.TypeEmbeddedDocument, "storageEngine")
	d.Str("name", "mongotest")
	return d.Close(at), nil
}

// replSetGetConfig returns the identity of the replica set and its one member.
func replSetGetConfig(r *request) (*bsondoc.Builder, error) {
	t := &r.server.topology
	d := bsondoc.New()
	config := d.Open(bson.TypeEmbeddedDocument, "config")
	d.Str("_id", replicaSetName).Int32("version", 1).Int32("term", 1)
	d.Docs("members", []bson.Raw{bsondoc.New().Int32("_id", 0).Str("host", r.server.name).Done()})
	settings := d.Open(bson.TypeEmbeddedDocument, "settings")
	d.ObjectID("replicaSetId", t.replicaSetID).Close(settings)
	return d.Close(config), nil
}
