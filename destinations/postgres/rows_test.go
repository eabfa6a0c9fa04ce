package postgres_test

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/destinations/postgres"
	"github.com/rigatoni-etl/rigatoni/internal/testing/pgserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
)

const orders = "shop.orders"

// A mirror has the last state of each document, with what happened last.
func TestMirrorRows(t *testing.T) {
	o := newOwner(t, postgres.Options{})
	o.must(insertDoc(1, e("n", 1)), insertDoc("1", e("n", 2)), insertDoc(bson.D{e("b", 1), e("a", 2)}))
	o.must(rigatonitest.Replace(orders, bson.D{e("_id", 1.0), e("n", 3)}), rigatonitest.Delete(orders, "1"),
		rigatonitest.With(rigatonitest.Update(orders, bson.D{e("b", int64(1)), e("a", 2.0)}, bson.D{e("n", 4)}), "fullDocument", bson.D{e("n", 4)}))
	o.want(`select _id || ' ' || op || ' ' || (doc->>'n') from orders order by _id`, "1 replace 3", `{"b":1,"a":2} update 4`)
	o.want(`select (cluster_time between '2026-01-01' and '2026-01-31' and substr(version, 1, 1) = '\x82')::text from orders`, "true", "true")
	o.must(rigatonitest.Delete(orders, int64(1)), rigatonitest.Delete(orders, bson.D{e("b", 1), e("a", 2)}))
	o.want("select _id from orders")
}

// A soft delete keeps the row with its document, also one that was inserted in the same
// batch, and one of which there was no row.
func TestSoftDelete(t *testing.T) {
	o := newOwner(t, postgres.Options{SoftDelete: true})
	o.must(insertDoc(1, e("n", 1)))
	o.must(insertDoc(2, e("n", 2)), rigatonitest.Delete(orders, 2), rigatonitest.Delete(orders, 1), rigatonitest.Delete(orders, 3))
	o.want(`select _id || ' ' || op || ' ' || coalesce(doc->>'n', 'none') from orders order by _id`, "1 delete 1", "2 delete 2", "3 delete none")
	o.must(insertDoc(1, e("n", 5)))
	o.want(`select op || ' ' || (doc->>'n') from orders where _id = '1'`, "insert 5")
}

// A log has a row for each event, in order, also across tables and transactions.
func TestLogRows(t *testing.T) {
	o := newOwner(t, postgres.Options{Mode: postgres.Log})
	o.must(insertDoc(1, e("n", 1)), rigatonitest.Insert("shop.users", bson.D{e("_id", "u")}), rigatonitest.Replace(orders, bson.D{e("_id", 1), e("n", 2)}))
	o.must(rigatonitest.With(rigatonitest.Update(orders, 1, nil), "fullDocument", nil), rigatonitest.Delete(orders, 1))
	o.must(insertDoc(1, e("n", 3)))
	o.want(`select _id || ' ' || op || ' ' || coalesce(doc->>'n', 'none') from orders order by seq`,
		"1 insert 1", "1 replace 2", "1 update none", "1 delete none", "1 insert 3")
	o.want(`select _id from orders order by version, seq`, "1", "1", "1", "1", "1")
	o.want(`select (version < lead(version) over (order by seq))::text from orders order by seq limit 4`, "true", "true", "true", "true")
	o.want("select _id from users", `"u"`)
}

// After a checkpoint was set back, no row goes back to an earlier version.
func TestNothingGoesBack(t *testing.T) {
	for _, soft := range []bool{false, true} {
		o := newOwner(t, postgres.Options{SoftDelete: soft})
		first, second := insertDoc(1, e("n", 1)), rigatonitest.Replace(orders, bson.D{e("_id", 1), e("n", 2)})
		old, deleted := insertDoc(2), rigatonitest.Delete(orders, 2)
		o.must(first, old, second, deleted)
		o.must(first, old)
		o.want("select doc->>'n' from orders where _id = '1'", "2")
		if soft { // without it, the row is back until its delete is
			o.want("select op from orders where _id = '2'", "delete")
		}
		o.must(rigatonitest.Delete(orders, 1)) // the newest of all
		o.must(second)
		if soft {
			o.want("select op from orders where _id = '1'", "delete")
		}
		o.must(deleted)
		o.want("select op from orders where _id = '2' and op <> 'delete'")
		o.must(insertDoc(2))
		o.must(deleted)
		o.want("select op from orders where _id = '2'", "insert")
	}
}

// An update in which the document was gone when it was read leaves the row alone; its
// delete follows.
func TestUpdateOfWhatIsGone(t *testing.T) {
	o := newOwner(t, postgres.Options{})
	gone := rigatonitest.With(rigatonitest.Update(orders, 1, bson.D{e("n", 2)}), "fullDocument", nil)
	o.must(insertDoc(1, e("n", 1)))
	o.must(gone)
	o.want("select doc->>'n' from orders", "1")
	o.must(gone, rigatonitest.Delete(orders, 1))
	o.want("select doc->>'n' from orders")
}

// Updates without their document are refused, at opening where the source says so, and
// otherwise at the first one, with the option that helps.
func TestUpdatesWithoutDocument(t *testing.T) {
	for _, mode := range []string{postgres.Mirror, postgres.Log} {
		o := newOwner(t, postgres.Options{Mode: mode})
		err := o.open(func(op *rigatoni.Opening) { op.Scope = &rigatoni.Scope{Database: "shop", FullDocument: "default"} })
		wantRefused(t, err, "full-document: updateLookup")
		if err := o.open(func(op *rigatoni.Opening) {
			op.Scope = &rigatoni.Scope{Database: "shop", FullDocument: "default", Operations: []string{"insert", "delete"}}
		}); err != nil {
			t.Errorf("a source that delivers no updates: %v", err)
		}
		if err := o.open(nil); err != nil {
			t.Fatal(err)
		}
		o.refused("full-document: updateLookup", insertDoc(1), rigatonitest.Update(orders, 1, bson.D{e("n", 2)}))
		if err := o.open(func(op *rigatoni.Opening) {
			op.Scope = &rigatoni.Scope{Database: "shop", FullDocument: "whenAvailable"}
		}); err != nil {
			t.Fatal(err)
		}
		o.refused("whenAvailable", rigatonitest.With(rigatonitest.Update(orders, 1, nil), "fullDocument", nil))
	}
}

// Events that no row can be made of are refused by name.
func TestRefusedEvents(t *testing.T) {
	for _, mode := range []string{postgres.Mirror, postgres.Log} {
		o := newOwner(t, postgres.Options{Mode: mode})
		o.refused("no fullDocument", rigatonitest.With(insertDoc(1), "fullDocument", nil))
		o.refused("no documentKey with an _id", rigatonitest.With(insertDoc(1), "documentKey", bson.D{e("shard", 1)}))
		o.refused(`the operation "vanish" is unknown`, rigatonitest.With(rigatonitest.Drop(orders), "operationType", "vanish"))
		o.refused(`the operation "vanish" is unknown`, rigatonitest.With(insertDoc(1), "operationType", "vanish"))
		for _, op := range []string{"create", "createIndexes", "modify"} {
			o.must(rigatonitest.With(rigatonitest.Drop(orders), "operationType", op))
		}
		o.want("select count(*)::text from orders", "0")
	}
}

// U+0000 becomes U+FFFD, wherever it is, and nothing else does; it is logged once.
func TestNUL(t *testing.T) {
	for _, form := range []postgres.Format{postgres.Simplified, postgres.Relaxed} {
		for _, mode := range []string{postgres.Mirror, postgres.Log} {
			o := newOwner(t, postgres.Options{Mode: mode, Format: form})
			o.must(insertDoc("a\x00b", e("s", "\x00x\x00"), e("literal", `\u0000`), e(`back\`, `\`+"\x00"), e("code", bson.JavaScript("\x00")), e("symbol", bson.Symbol("\x00"))),
				insertDoc("a\ufffdb"), insertDoc(`a\u0000b`), insertDoc(bson.D{e("k", "\x00")}))
			o.want(`select _id from orders order by _id collate "C"`, `"a\\u0000b"`, `"a\u0000b"`, `"a`+"\ufffd"+`b"`, `{"k":"\u0000"}`)
			o.want(`select (doc->>'s') || (doc->>'literal') || (doc->>'back\') from orders where doc ? 's'`, "\ufffdx\ufffd"+`\u0000\`+"\ufffd")
			if n := o.d.ReplacedNULs(); n != 7 { // two of them are in _ids in doc
				t.Errorf("%d replaced, not 7", n)
			}
			o.must(insertDoc(3, e("s", "\x00")))
			if n := o.log.count("U+0000 replaced"); n != 1 {
				t.Errorf("logged %d times", n)
			}
			stopper := ownerOf(t, o.pool, "shop", postgres.Options{Mode: mode, Format: form, OnNUL: postgres.Stop})
			stopper.refused("on-nul: replace", insertDoc(4), insertDoc(5, e("s", bson.A{"\x00"})))
			stopper.must(insertDoc(4, e("literal", `\u0000 \\u0000`)))
			o.want("select doc->>'literal' from orders where _id = '4'", `\u0000 \\u0000`)
		}
	}
}

// What JSON or jsonb lacks has the result that the documentation promises, and blocks no
// stream.
func TestExtremes(t *testing.T) {
	deep := bson.D{e("v", "deepest")}
	for range 250 {
		deep = bson.D{e("d", deep)}
	}
	nested := bson.A{}
	for range 180 {
		nested = bson.A{nested}
	}
	twice, err := bson.Marshal(bson.D{e("_id", "twice"), e("k", 1), e("k", 2)})
	if err != nil {
		t.Fatal(err)
	}
	many := bson.D{e("_id", "many")}
	for i := range 50_000 {
		many = append(many, e(fmt.Sprint("key", i), int32(i)))
	}
	for _, mode := range []string{postgres.Mirror, postgres.Log} {
		for _, form := range []postgres.Format{postgres.Simplified, postgres.Relaxed} {
			o := newOwner(t, postgres.Options{Mode: mode, Format: form})
			o.must(
				insertDoc("numbers", e("nan", math.NaN()), e("inf", math.Inf(-1)), e("max", math.MaxFloat64), e("min", math.SmallestNonzeroFloat64),
					e("long", int64(math.MaxInt64)), e("zero", math.Copysign(0, -1)), e("decimal", decimalOf(t, "9.999999999999999999999999999999999E+6144")), e("dnan", decimalOf(t, "NaN"))),
				insertDoc("deep", e("d", deep), e("a", nested)),
				insertDoc("utf8", e("s", "a\xff\xed\xa0\x80b"), e("k\xff", "x"), e("", "empty key")),
				rigatonitest.Insert(orders, bson.Raw(twice)),
				rigatonitest.Insert(orders, many),
				insertDoc("dates", e("late", bson.DateTime(math.MaxInt64)), e("early", bson.DateTime(math.MinInt64))),
				insertDoc("types", e("min", bson.MinKey{}), e("undefined", bson.Undefined{}), e("re", bson.Regex{Pattern: "^a", Options: "i"}), e("code", bson.CodeWithScope{Code: "f", Scope: bson.D{}})),
			)
			o.want(`select (doc->>'max')::float8::text || ' ' || (doc->>'min')::float8::text || ' ' || (doc->>'long') || ' ' || (doc->>'zero') from orders where _id = '"numbers"'`,
				"1.7976931348623157e+308 5e-324 9223372036854775807 0.0")
			if form == postgres.Simplified {
				o.want(`select (doc->>'nan') || ' ' || (doc->>'inf') || ' ' || (doc->>'decimal') || ' ' || (doc->>'dnan') from orders where _id = '"numbers"'`,
					"NaN -Infinity 9.999999999999999999999999999999999E+6144 NaN")
			} else {
				o.want(`select doc->'nan'->>'$numberDouble' from orders where _id = '"numbers"'`, "NaN")
			}
			o.want(`select (doc->>'s') || (doc->>('k' || U&'\FFFD')) || (doc->>'') from orders where _id = '"utf8"'`, "a\ufffd\ufffd\ufffd\ufffdbxempty key")
			o.want(`select doc->>'k' from orders where _id = '"twice"'`, "2")
			o.want(`select doc->>'key49999' from orders where _id = '"many"'`, "49999")
			o.want(`select (doc::text like '%deepest%')::text from orders where _id = '"deep"'`, "true")
		}
	}
}

func decimalOf(t *testing.T, s string) bson.Decimal128 {
	t.Helper()
	d, err := bson.ParseDecimal128(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The largest documents fit, also where their text is six times as long.
func TestLargeDocuments(t *testing.T) {
	const size = 16<<20 - 1000
	for mode, texts := range map[string][]string{postgres.Mirror: {"x", "\x01"}, postgres.Log: {"\x00"}} {
		if os.Getenv("RIGATONI_CAMPAIGN") != "full" {
			texts = texts[:1] // the server takes seconds for each
		}
		o := newOwner(t, postgres.Options{Mode: mode})
		for i, text := range texts {
			o.must(insertDoc(i, e("s", strings.Repeat(text, size))))
			o.want(fmt.Sprintf("select length(doc->>'s')::text from orders where _id = '%d'", i), fmt.Sprint(size))
		}
	}
	o := newOwner(t, postgres.Options{})
	elements := make(bson.A, 1<<20)
	o.must(insertDoc("array", e("a", elements)))
	o.want(`select jsonb_array_length(doc->'a')::text from orders`, fmt.Sprint(len(elements)))
}

// An _id that is too long for an index has a row of its own all the same.
func TestLongIDs(t *testing.T) {
	long := strings.Repeat("0123456789", 50_000)
	o := newOwner(t, postgres.Options{})
	o.must(insertDoc(long), insertDoc(long+"x"))
	o.must(rigatonitest.Replace(orders, bson.D{e("_id", long), e("n", 2)}), rigatonitest.Delete(orders, long+"x"))
	o.want("select doc->>'n' from orders where length(_id) < 1200", "2")
}

// A read of a snapshot is an upsert in a mirror, and a row with the op read in a log.
func TestReads(t *testing.T) {
	read := rigatonitest.With(insertDoc(1, e("n", 1)), "operationType", "read")
	for mode, want := range map[string]string{postgres.Mirror: "insert", postgres.Log: "read"} {
		o := newOwner(t, postgres.Options{Mode: mode})
		o.must(read)
		o.want("select op from orders", "read")
		o.must(insertDoc(1))
		o.want("select op from orders order by version desc limit 1", "insert")
		o.want("select op from orders order by version limit 1", want)
	}
}

// Each way in which pgx can send statements works, those for proxies too.
func TestExecModes(t *testing.T) {
	for _, execMode := range []string{"exec", "simple_protocol", "cache_describe", "describe_exec"} {
		for _, mode := range []string{postgres.Mirror, postgres.Log} {
			o := ownerOf(t, newPool(t, pgserver.Database(t)+"&default_query_exec_mode="+execMode, nil), "shop", postgres.Options{Mode: mode})
			o.must(insertDoc("\\x00 'quoted'", e("n", 1)), insertDoc(2))
			o.must(rigatonitest.Delete(orders, 2), rigatonitest.Replace(orders, bson.D{e("_id", "\\x00 'quoted'"), e("n", 2)}))
			o.want(`select doc->>'n' from orders where op = 'replace'`, "2")
			o.want(`select left(encode(version, 'hex'), 2) from orders where op = 'replace'`, "82")
			if mode == postgres.Mirror {
				if err := sweepOf(o, rigatonitest.Drop(orders)); err != nil {
					t.Errorf("%s: %v", execMode, err)
				}
				o.want("select _id from orders")
			}
		}
	}
}
