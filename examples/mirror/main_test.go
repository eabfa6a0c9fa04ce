package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/destinationtest"
)

func TestMirror(t *testing.T) {
	destinationtest.Run(t, func(t *testing.T) destinationtest.Harness {
		m := mirror{t.TempDir()}
		return destinationtest.Harness{
			Open: func(context.Context) (rigatoni.Destination, error) { return m, nil },
			Read: func(ctx context.Context, key string) (records []destinationtest.Record, err error) {
				opened, err := m.Open(ctx, rigatoni.Opening{Key: key})
				if err != nil {
					return nil, err
				}
				paths, err := filepath.Glob(filepath.Join(opened.(sink).dir, "*.json"))
				for _, path := range paths {
					var doc struct {
						ID int32 `bson:"_id"`
						N  int32 `bson:"n"`
					}
					text, err := os.ReadFile(path)
					if err == nil {
						err = bson.UnmarshalExtJSON(text, false, &doc)
					}
					if err != nil {
						return nil, err
					}
					records = append(records, destinationtest.Record{ID: doc.ID, N: doc.N})
				}
				return records, err
			},
			Mirror:  true,
			Refused: func(int32) rigatoni.Event { return rigatonitest.Drop("destinationtest.items") },
		}
	})
}
