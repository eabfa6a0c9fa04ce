package postgres

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rigatoni-etl/rigatoni"
)

// maxName is how long a name of PostgreSQL's may be, in bytes. It cuts a longer one, so
// that two of them may become one.
const maxName = 63

// hashDigits are at the end of a name that was too long.
const hashDigits = 10

// A pattern makes the names of the tables.
type pattern struct {
	schema string // "" for the first schema of the search path
	table  string
}

var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

// parsePattern reads Options.Table. The error continues after the pattern.
func parsePattern(text string) (pattern, error) {
	var p pattern
	schema, table, ok := strings.Cut(text, ".")
	if !ok {
		schema, table = "", text
	}
	p = pattern{schema, table}
	switch {
	case ok && schema == "" || table == "":
		return p, errors.New("has an empty name; write SCHEMA.TABLE or TABLE, such as public.{collection}")
	case strings.ContainsRune(text, 0):
		return p, errors.New("has the character U+0000, which no name can have")
	}
	for _, found := range placeholder.FindAllString(text, -1) {
		if found != "{collection}" && found != "{database}" {
			return p, fmt.Errorf("has %s; there are {collection} and {database}", found)
		}
	}
	if strings.ContainsAny(placeholder.ReplaceAllString(text, ""), "{}") {
		return p, errors.New("has a brace by itself; write {collection} or {database}")
	}
	return p, nil
}

// has reports whether the names depend on the collection or the database.
func (p pattern) has(placeholder string) bool {
	return strings.Contains(p.schema+"."+p.table, placeholder)
}

// of is the name of a collection's table.
func (p pattern) of(ns rigatoni.Namespace) tableName {
	fill := strings.NewReplacer("{collection}", ns.Coll, "{database}", ns.DB)
	return tableName{shortened(fill.Replace(p.schema)), shortened(fill.Replace(p.table))}
}

// shortened is the form of a name that PostgreSQL can have. Where two names become the
// same all the same, the catalog says so: see claim.
func shortened(name string) string {
	valid := strings.ToValidUTF8(name, "\uFFFD")
	if len(valid) <= maxName && valid == name {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	end := "~" + hex.EncodeToString(sum[:])[:hashDigits]
	return strings.ToValidUTF8(valid[:min(len(valid), maxName-len(end))], "") + end
}

// A tableName is the name of a table. The schema is empty where the search path
// decides.
type tableName struct{ schema, table string }

// String is the name for SQL, quoted.
func (n tableName) String() string {
	if n.schema == "" {
		return quoteName(n.table)
	}
	return quoteName(n.schema) + "." + quoteName(n.table)
}

func quoteName(name string) string { return pgx.Identifier{name}.Sanitize() }
