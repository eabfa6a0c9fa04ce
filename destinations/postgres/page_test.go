package postgres_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/destinations/postgres"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
)

var sqlBlock = regexp.MustCompile("(?ms)^```sql\n(.*?)^```$")

// The SQL of the documentation works, in its order, and gives what it says: columns with
// types, also of documents that don't fit them.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/destinations/postgres.md")
	if err != nil {
		t.Skip(err) // the module alone
	}
	customer := bson.ObjectID{0x65, 0xa1, 11: 1}
	order := func(id int, total any, sku string, n int) bson.D {
		return bson.D{e("_id", id), e("customer", customer), e("total", total), e("at", bson.DateTime(1794000000120)),
			e("lines", bson.A{bson.D{e("sku", sku), e("n", n)}, bson.D{e("sku", "B-7"), e("n", 1)}})}
	}
	o := newOwner(t, postgres.Options{})
	o.must(
		rigatonitest.Insert(orders, order(1, 12.5, "A-1", 2)), rigatonitest.Insert(orders, order(2, int64(7), "A-1", 3)),
		rigatonitest.Insert("shop.customers", bson.D{e("_id", customer), e("name", "Ada")}),
		rigatonitest.Insert("shop.skus", bson.D{e("_id", "A-1"), e("name", "Apple")}),
	)
	log := ownerOf(t, o.pool, "log", postgres.Options{Mode: postgres.Log, Table: "log.{collection}"})
	log.must(insertDoc(1))
	blocks := sqlBlock.FindAllStringSubmatch(string(page), -1)
	if len(blocks) != 4 {
		t.Fatalf("%d blocks of SQL", len(blocks))
	}
	for i, want := range []string{"19.5 65a100000000000000000001", "A-1 5, B-7 2", "12.5 Ada, 7 Ada; Apple 1, Apple 2", ""} {
		var results []string
		for statement := range strings.SplitSeq(strings.TrimSpace(blocks[i][1]), ";\n") {
			if !strings.HasPrefix(statement, "SELECT") {
				exec(t, o.pool, statement)
				continue
			}
			statement = strings.TrimSuffix(statement, ";")
			if i == 3 {
				exec(t, o.pool, "begin; set local search_path = log; "+statement+"; commit")
				continue
			}
			lines := o.values("select concat_ws(' ', variadic array(select value from jsonb_each_text(to_jsonb(q)))) from (" + statement + ") q order by 1")
			results = append(results, strings.Join(lines, ", "))
		}
		if got := strings.Join(results, "; "); got != want {
			t.Errorf("block %d gives %q, want %q", i+1, got, want)
		}
	}
	// A document that doesn't fit the types is no reason to stop.
	o.must(rigatonitest.Insert(orders, bson.D{e("_id", 3), e("total", "much")}))
	o.want("select coalesce(total::text, 'none') from orders where _id = '3'", "none")
}
