package dbcampaign

import (
	"bytes"
	"context"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

// A MongoDB judges the collections of a database by those that they are of.
type MongoDB struct {
	Source, Target *mongo.Database
	Colls          []string
}

// Mirror says what differs, byte by byte.
func (m MongoDB) Mirror(ctx context.Context, j Journal) ([]string, error) {
	var f faults
	for _, coll := range m.Colls {
		want, err := documents(ctx, &f, m.Source, coll)
		if err != nil {
			return nil, err
		}
		j.check(&f, coll, want)
		got, err := documents(ctx, &f, m.Target, coll)
		if err != nil {
			return nil, err
		}
		for name, doc := range want {
			if other, ok := got[name]; !ok {
				f.add("%s is in the source and not in the target", name)
			} else if !bytes.Equal(doc, other) {
				f.add("%s is %s in the source and %s in the target", name, doc, other)
			}
		}
		for name := range got {
			if want[name] == nil {
				f.add("%s is in the target and not in the source", name)
			}
		}
	}
	return f.all(), nil
}
