package mongodb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/rigatoni-etl/rigatoni"
)

// escaper is that of changestream's fingerprints, in whose form a source compares streams.
var escaper = strings.NewReplacer("%", "%25", " ", "%20", ",", "%2C", "=", "%3D", "\n", "%0A", "\r", "%0D", "\t", "%09")

// fingerprint is that of a stream that would have what is written to these collections.
func fingerprint(deployment, db string, colls []string) string {
	escaped := make([]string, len(colls))
	for i, c := range colls {
		escaped[i] = escaper.Replace(c)
	}
	return strings.TrimSpace(deployment + " database=" + escaper.Replace(db) + " collections=" + strings.Join(escaped, ","))
}

// checkLoop refuses a stream that has what the destination writes: the checkpoints, and the
// collections of the mirror, if it is one. Deployments are compared by the id that a replica
// set gets when it is initiated, not by their addresses.
func checkLoop(ctx context.Context, client *mongo.Client, checkpoints string, o rigatoni.Opening, names *pattern) error {
	if o.Overlaps == nil {
		return nil
	}
	deployment, err := identify(ctx, client)
	if err != nil {
		return fmt.Errorf("mongodb: asking which deployment this is: %w", explained(err))
	}
	db, coll, _ := strings.Cut(checkpoints, ".")
	own := []string{coll, coll + targetsSuffix, coll + touchedSuffix}
	if names == nil {
		own = own[:1]
	}
	overlap, err := o.Overlaps(ctx, fingerprint(deployment, db, own))
	switch {
	case err != nil:
		return fmt.Errorf("mongodb: comparing source and target: %w", err)
	case overlap != rigatoni.NoOverlap:
		return invalid("the source watches %s, the collection of the checkpoints: each save would be an event; put them into a database that the source doesn't watch (checkpoints)", checkpoints)
	case names == nil:
		return nil
	}
	scope := rigatoni.Scope{}
	if o.Scope != nil {
		scope = *o.Scope
	}
	toDB, toColls := names.globs(scope.Database, scope.Collections)
	overlap, err = o.Overlaps(ctx, fingerprint(deployment, toDB, toColls))
	switch {
	case err != nil:
		return fmt.Errorf("mongodb: comparing source and target: %w", err)
	case overlap != rigatoni.NoOverlap:
		return invalid("the source watches what the mirror writes (%s.%s, in the same deployment as far as is known): each write would be an event, for ever; choose another target, such as target=copy_{database}.{collection}, and watch databases by name", toDB, strings.Join(toColls, ","))
	}
	return nil
}

// checkScope refuses a stream that the mirror can't follow, as far as that is known before
// its events.
func (d *Destination) checkScope(scope *rigatoni.Scope) error {
	if scope == nil {
		return nil
	}
	p := d.names
	has := func(operation string) bool {
		return len(scope.Operations) == 0 || slices.Contains(scope.Operations, operation)
	}
	isOne := func(names ...string) bool {
		return len(names) == 1 && names[0] != "" && !strings.Contains(names[0], "*")
	}
	switch {
	case scope.FullDocument == "default" && has("update"):
		return invalid("updates come without their document; have the source add it: full-document: updateLookup (changestream.Options.FullDocument), or required, where the collections store post-images")
	case d.opts.OnDrop != Ignore && !(has("drop") && has("rename")):
		return invalid("the source hides drop or rename (operations), so that on-drop: %s could not be kept; add both, or set on-drop: ignore", d.opts.OnDrop)
	case !p.has(database) && !isOne(scope.Database):
		return invalid("the target %s.%s has no {database}, and the source watches several: two collections of the same name would become one", p.db, p.coll)
	case !p.has(collection) && !isOne(scope.Collections...):
		return invalid("the target %s.%s has no {collection}, and the source watches several: their documents would be mixed", p.db, p.coll)
	}
	return nil
}

// identify says which deployment a client is connected to, as changestream's fingerprints do.
func identify(ctx context.Context, client *mongo.Client) (string, error) {
	var hello struct {
		Set string `bson:"setName"`
	}
	if err := run(ctx, client, "hello", &hello); err != nil {
		return "", err
	}
	var config struct {
		Config struct {
			Settings struct {
				ID bson.ObjectID `bson:"replicaSetId"`
			} `bson:"settings"`
		} `bson:"config"`
	}
	text := ""
	if hello.Set != "" {
		text = "set=" + escaper.Replace(hello.Set)
	}
	err := run(ctx, client, "replSetGetConfig", &config)
	var answer mongo.ServerError
	switch {
	case err == nil && !config.Config.Settings.ID.IsZero():
		text += " id=" + config.Config.Settings.ID.Hex()
	case err != nil && !(errors.As(err, &answer) && slices.ContainsFunc(noSuchConfig, answer.HasErrorCode)):
		return "", err
	}
	return text, nil
}

// noSuchConfig are the codes with which a server doesn't show its configuration to this
// user (13; 8000 is Atlas's), or has none (59, 76, 115: a mongos, another product).
var noSuchConfig = []int{13, 8000, 59, 76, 115}

func run(ctx context.Context, client *mongo.Client, command string, reply any) error {
	cmd := bson.D{{Key: command, Value: 1}}
	return client.Database("admin").RunCommand(ctx, cmd, options.RunCmd().SetReadPreference(readpref.Primary())).Decode(reply)
}
