package rigatoni_test

import (
	"context"
	"log/slog"
	"reflect"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

// A scopedSource says what its stream has.
type scopedSource struct{ *rigatonitest.Source }

func (scopedSource) Scope(stream string) rigatoni.Scope {
	return rigatoni.Scope{Database: "shop", Collections: []string{"of " + stream}, FullDocument: "default"}
}

// A destination is opened, and checked, with what the source says of the stream; with nil
// if it says nothing.
func TestScopeOfAnOpening(t *testing.T) {
	for name, c := range map[string]struct {
		source rigatoni.Source
		want   *rigatoni.Scope
	}{
		"a Scoper": {scopedSource{source("orders")}, &rigatoni.Scope{Database: "shop", Collections: []string{"of orders"}, FullDocument: "default"}},
		"another":  {source("orders"), nil},
	} {
		var got []*rigatoni.Scope
		p, err := rigatoni.New(rigatoni.Config{
			Name: "p", Source: c.source, Store: memstore.New(), Logger: slog.New(slog.DiscardHandler),
			Destination: openingSeen(func(o rigatoni.Opening) { got = append(got, o.Scope) }),
		})
		if err != nil {
			t.Fatal(err)
		}
		p.CheckStart(t.Context())
		if err := p.Run(t.Context()); err == nil {
			t.Fatal("the source has ended, and Run returns nil")
		}
		if len(got) != 2 || !reflect.DeepEqual(got[0], c.want) || !reflect.DeepEqual(got[1], c.want) {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func source(stream string) *rigatonitest.Source {
	s := rigatonitest.NewStreams(stream)
	s.Append(rigatonitest.Insert("shop.orders", bson.D{}))
	s.End()
	return s
}

// openingSeen is a destination that passes on what it is opened and checked with.
type openingSeen func(rigatoni.Opening)

func (see openingSeen) Open(_ context.Context, o rigatoni.Opening) (rigatoni.Sink, error) {
	see(o)
	return rigatoni.Func(func(context.Context, rigatoni.Event) error { return nil }), nil
}

func (see openingSeen) CheckOpening(_ context.Context, o rigatoni.Opening) error {
	see(o)
	return nil
}
