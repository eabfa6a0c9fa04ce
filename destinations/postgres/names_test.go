package postgres

import (
	"strings"
	"testing"

	"github.com/rigatoni-etl/rigatoni"
)

// The names of tables are quoted, taken as they are, and never longer than what
// PostgreSQL would cut.
func TestNames(t *testing.T) {
	long := strings.Repeat("x", 200)
	for _, c := range []struct{ pattern, db, coll, want string }{
		{"public.{collection}", "shop", "orders", `"public"."orders"`},
		{"public.{collection}", "shop", "fs.files", `"public"."fs.files"`},
		{"public.{collection}", "shop", `Or"ders; drop`, `"public"."Or""ders; drop"`},
		{"public.{collection}", "shop", "{database}", `"public"."{database}"`},
		{"{database}.m_{collection}_x", "Shop", "ü", `"Shop"."m_ü_x"`},
		{"{collection}", "shop", "orders", `"orders"`},
		{"a.b.{collection}", "shop", "orders", `"a"."b.orders"`},
		{"public.{collection}", "shop", strings.Repeat("x", 63), `"public"."` + strings.Repeat("x", 63) + `"`},
		{"public.{collection}", "shop", long, `"public"."` + long[:52] + `~aa20c23e32"`},
		{"public.{collection}", "shop", long + "y", `"public"."` + long[:52] + `~7852ced2fc"`},
		{"public.{collection}", "shop", "x" + strings.Repeat("ü", 60), `"public"."x` + strings.Repeat("ü", 25) + `~f2ec193e3e"`},
	} {
		p, err := parsePattern(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		n := p.of(rigatoni.Namespace{DB: c.db, Coll: c.coll})
		if got := n.String(); got != c.want {
			t.Errorf("%s for %s.%s: got %s, want %s", c.pattern, c.db, c.coll, got, c.want)
		}
		if len(n.table) > maxName {
			t.Errorf("%s has %d bytes", n, len(n.table))
		}
	}
	invalid := shortened("a\xff")
	if other := shortened("a\xfe"); invalid == other || !strings.HasPrefix(invalid, "a\ufffd~") {
		t.Errorf("names that aren't UTF-8: %s and %s", invalid, other)
	}
}
