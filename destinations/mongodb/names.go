package mongodb

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/rigatoni-etl/rigatoni"
)

// A pattern makes the names of the mirror's collections.
type pattern struct{ db, coll string }

var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

const (
	database   = "{database}"
	collection = "{collection}"
)

// parsePattern reads Options.Target. The error continues after the pattern.
func parsePattern(text string) (pattern, error) {
	db, coll, _ := strings.Cut(text, ".")
	p := pattern{db, coll}
	for _, found := range placeholder.FindAllString(text, -1) {
		if found != database && found != collection {
			return p, fmt.Errorf("has %s; there are {database} and {collection}", found)
		}
	}
	bare := strings.NewReplacer(database, "x", collection, "x")
	switch {
	case db == "" || coll == "":
		return p, errors.New("is not DATABASE.COLLECTION, such as copy.{collection}")
	case strings.ContainsAny(bare.Replace(text), "{}"):
		return p, errors.New("has a brace by itself; write {database} or {collection}")
	case !isDatabase(bare.Replace(db)):
		return p, fmt.Errorf("has %q for a database; its name has none of / \\ . \" $ or space, and admin, config and local are the server's", db)
	case !isCollection(bare.Replace(coll)):
		return p, fmt.Errorf("has %q for a collection; a name that contains $ or begins with \"system.\" is the server's", coll)
	}
	return p, nil
}

// of is the collection of the mirror for one of the source.
func (p pattern) of(ns rigatoni.Namespace) rigatoni.Namespace {
	fill := strings.NewReplacer(database, ns.DB, collection, ns.Coll)
	return rigatoni.Namespace{DB: fill.Replace(p.db), Coll: fill.Replace(p.coll)}
}

// globs is the same for patterns of the source's names, in which "*" stands for any
// characters.
func (p pattern) globs(db string, colls []string) (string, []string) {
	if db == "" {
		db = "*"
	}
	if len(colls) == 0 {
		colls = []string{"*"}
	}
	outDB := strings.NewReplacer(database, db, collection, "*").Replace(p.db)
	out := make([]string, len(colls))
	for i, c := range colls {
		out[i] = strings.NewReplacer(database, db, collection, c).Replace(p.coll)
		if len(colls) == 1 {
			outDB = strings.NewReplacer(database, db, collection, c).Replace(p.db)
		}
	}
	return outDB, out
}

func (p pattern) has(placeholder string) bool {
	return strings.Contains(p.db+"."+p.coll, placeholder)
}

// isDatabase reports whether a name may be that of a database to write to.
func isDatabase(name string) bool {
	switch name {
	case "", "admin", "config", "local":
		return false
	}
	return len(name) <= 63 && !strings.ContainsAny(name, "/\\. \"$\x00")
}

func isCollection(name string) bool {
	return name != "" && !strings.ContainsAny(name, "$\x00") && !strings.HasPrefix(name, "system.") && !strings.HasPrefix(name, ".")
}
