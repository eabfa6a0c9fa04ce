package rigatonitest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/state"
)

func numbered(id, n int) bson.D { return bson.D{{Key: "_id", Value: id}, {Key: "n", Value: n}} }

// text is an event as "replace orders 1:2", its operation, collection, _id and n.
func text(ev rigatoni.Event) string {
	s := ev.OperationType() + " " + ev.Namespace().Coll
	if id, err := ev.DocumentKey().LookupErr("_id"); err == nil {
		s += fmt.Sprint(" ", id.AsInt64())
	}
	if n, err := ev.FullDocument().LookupErr("n"); err == nil {
		s += fmt.Sprint(":", n.AsInt64())
	}
	return s
}

// rest are the events of a stream until it has no more, with the position after each.
func rest(t *testing.T, s *rigatonitest.Source, at rigatoni.Start) (texts []string, after []rigatoni.Position) {
	t.Helper()
	st := open(t, s, at)
	for {
		events, _, err := st.Next(t.Context())
		if errors.Is(err, rigatonitest.ErrEnd) {
			return texts, after
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events {
			pos, err := rigatoni.PositionAfter(ev)
			if err != nil {
				t.Fatal(err)
			}
			texts, after = append(texts, text(ev)), append(after, pos)
		}
	}
}

func checkpointOf(pos rigatoni.Position) *state.Checkpoint {
	cp := &state.Checkpoint{Token: pos.Token, StartAfter: pos.StartAfter, ClusterTime: pos.ClusterTime}
	if pos.Snapshot != "" {
		cp.Extra = map[string]json.RawMessage{rigatoni.ExtraSnapshot: json.RawMessage(pos.Snapshot)}
	}
	return cp
}

// copied is a source with two documents, to which the events are appended before the stream opens.
func copied(events ...rigatoni.Event) *rigatonitest.Source {
	s := rigatonitest.NewSource()
	s.SnapshotChunk = 1
	s.Populate("shop.orders", numbered(1, 0), numbered(2, 0))
	s.Append(events...)
	s.End()
	return s
}

func TestCopy(t *testing.T) {
	for _, c := range []struct {
		name   string
		events []rigatoni.Event
		again  bool
		want   []string
	}{
		{"nothing changes", nil, false, []string{"read orders 1:0", "read orders 2:0", "snapshotEnd orders"}},
		{"what is not copied yet is left out", []rigatoni.Event{
			rigatonitest.Replace("shop.orders", numbered(1, 1)), rigatonitest.Replace("shop.orders", numbered(2, 1)), rigatonitest.Insert("shop.orders", numbered(3, 1)),
		}, false, []string{"read orders 1:0", "replace orders 1:1", "read orders 2:1", "read orders 3:1", "snapshotEnd orders"}},
		{"and is not in a copy that is made again", []rigatoni.Event{
			rigatonitest.Replace("shop.orders", numbered(2, 1)), rigatonitest.Delete("shop.orders", 2),
		}, true, []string{"read orders 1:0", "replace orders 2:1", "delete orders 2", "snapshotEnd orders"}},
		{"an update", []rigatoni.Event{rigatonitest.Update("shop.orders", 2, bson.D{{Key: "n", Value: 5}})}, false,
			[]string{"read orders 1:0", "read orders 2:5", "snapshotEnd orders"}},
		{"a drop", []rigatoni.Event{rigatonitest.Drop("shop.orders"), rigatonitest.Insert("shop.orders", numbered(9, 1))}, false,
			[]string{"read orders 1:0", "drop orders", "insert orders 9:1"}},
		{"a drop of the database", []rigatoni.Event{rigatonitest.DropDatabase("shop")}, false, []string{"read orders 1:0", "dropDatabase "}},
		{"a rename", []rigatoni.Event{rigatonitest.Rename("shop.orders", "shop.old"), rigatonitest.Replace("shop.old", numbered(2, 1))}, false,
			[]string{"read orders 1:0", "rename orders", "read old 2:1", "snapshotEnd old"}},
	} {
		s := copied(c.events...)
		got, _ := rest(t, s, rigatoni.Start{Snapshot: true, SnapshotAgain: c.again})
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// mirrored are the last versions of documents, "orders 1:2".
func mirrored(texts []string) (docs []string) {
	last := map[string]string{}
	for _, s := range texts {
		if _, doc, ok := strings.Cut(s, " "); ok && strings.Contains(doc, ":") {
			id, _, _ := strings.Cut(doc, ":")
			last[id] = doc
		}
	}
	return slices.Sorted(maps.Values(last))
}

// A copy goes on after each of its positions with what is missing, and with nothing twice.
func TestCopyGoesOnAfterEachPosition(t *testing.T) {
	s := copied(rigatonitest.Replace("shop.orders", numbered(1, 1)), rigatonitest.Insert("shop.orders", numbered(3, 1)), rigatonitest.Insert("shop.users", numbered(7, 1)))
	all, after := rest(t, s, rigatoni.Start{Snapshot: true})
	for i, pos := range after {
		got, _ := rest(t, s, rigatoni.Start{Checkpoint: checkpointOf(pos)})
		got = slices.Concat(all[:i+1], got)
		if !slices.Equal(mirrored(got), mirrored(all)) {
			t.Errorf("resumed after %q: %q, want the documents of %q", all[i], got, all)
		}
		slices.Sort(got)
		if n := len(got); len(slices.Compact(got)) != n {
			t.Errorf("resumed after %q, something comes twice: %q", all[i], got)
		}
	}
	if last := after[len(after)-1]; last.Snapshot != "" {
		t.Errorf("after the copy its state is %s", last.Snapshot)
	}
	if !strings.Contains(after[0].Snapshot, `"documents":1`) {
		t.Errorf("after a document the state is %s", after[0].Snapshot)
	}
}
