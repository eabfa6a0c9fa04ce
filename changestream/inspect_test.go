package changestream

import (
	"reflect"
	"testing"
)

func TestOptionsOfAFingerprint(t *testing.T) {
	for _, o := range []Options{
		{},
		{Database: "shop"},
		{Database: "shop_*", Collections: []string{"log_*", "orders"}},
		{Database: "shop", Collections: []string{"a b", "c,d=%20", "e%\n\r\t"}, Operations: []string{"delete", "insert"}, ExpandedEvents: true},
	} {
		src, err := newSource(&o)
		if err != nil {
			t.Fatal(err)
		}
		text, err := src.Fingerprint("", Identity{Set: "rs 0", ID: "6b05be5cbb3b51667e6426c6"})
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := OptionsOf(text); !ok || !reflect.DeepEqual(got, o) {
			t.Errorf("%s: %+v, %v, want %+v", text, got, ok, o)
		}
	}
	for _, text := range []string{"", "x", "=x", "set=", "another source's"} {
		if _, ok := OptionsOf(text); ok {
			t.Errorf("%q has options", text)
		}
	}
}

func TestIdentityHasAFingerprint(t *testing.T) {
	here := Identity{Set: "rs 0", ID: "1a"}
	for text, want := range map[string]bool{
		"set=rs%200 id=1a database=shop": true, "set=renamed id=1a": true, "set=rs%200 id=2b": false,
		"set=rs%200": true, "set=rs1": false, "database=shop": true, "": true, "another source's": true,
	} {
		if got := here.Has(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	if weak := (Identity{Set: "rs 0"}); !weak.Has("set=rs%200 id=2b") || weak.Has("set=rs1 id=2b") {
		t.Error("without an id, the names of the sets decide")
	}
}

func TestDifferences(t *testing.T) {
	const a, b = "set=rs0 id=1a database=shop collections=orders", "set=rs0 id=1a database=shop collections=orders,users"
	if got := Differences(a, b); !reflect.DeepEqual(got, []string{"collections: orders → orders,users"}) {
		t.Errorf("%q", got)
	}
	for _, pair := range [][2]string{{"", a}, {a, ""}, {a, a}} {
		if got := Differences(pair[0], pair[1]); got != nil {
			t.Errorf("%q: %q", pair, got)
		}
	}
}
