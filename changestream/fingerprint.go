package changestream

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rigatoni-etl/rigatoni"
)

// A deployment is known by the id that a replica set gets when it is initiated
// and keeps for ever, and by the set's name where the id can't be read.
type deployment struct{ set, id string }

// A fingerprint says what stream a token belongs to. Its text is for people too:
//
//	set=rs0 id=6b05be5cbb3b51667e6426c6 database=shop collections=orders,users
//
// Fields that are empty are left out; in values the characters space, comma, "="
// and "%" are percent-encoded.
type fingerprint struct {
	deployment
	scope
}

const (
	fieldSet         = "set"
	fieldID          = "id"
	fieldDatabase    = "database"
	fieldCollections = "collections"
	fieldExpanded    = "expandedEvents"
)

var escaper = strings.NewReplacer("%", "%25", " ", "%20", ",", "%2C", "=", "%3D", "\n", "%0A", "\r", "%0D", "\t", "%09")

func (f fingerprint) String() string {
	collections := make([]string, len(f.collections))
	for i, c := range f.collections {
		collections[i] = escaper.Replace(c)
	}
	var fields []string
	add := func(field, value string) {
		if value != "" {
			fields = append(fields, field+"="+value)
		}
	}
	add(fieldSet, escaper.Replace(f.set))
	add(fieldID, escaper.Replace(f.id))
	add(fieldDatabase, escaper.Replace(f.database))
	add(fieldCollections, strings.Join(collections, ","))
	if f.expanded {
		add(fieldExpanded, "on")
	}
	return strings.Join(fields, " ")
}

// accept is what a person repeats to accept a change. It names both streams, so
// that one left behind in a unit file accepts that change alone, and no later one.
func accept(before, now string) string {
	sum := sha256.Sum256([]byte(before + "\n" + now))
	return hex.EncodeToString(sum[:6])
}

// compare returns a [rigatoni.ChangedStreamError] if a checkpoint's fingerprint is
// of another stream than ours. An empty one says nothing.
func compare(checkpoint, ours string) error {
	if checkpoint == "" || checkpoint == ours {
		return nil
	}
	changes := differences(checkpoint, ours)
	if len(changes) == 0 {
		return nil
	}
	return &rigatoni.ChangedStreamError{Changes: changes, Accept: accept(checkpoint, ours)}
}

func differences(before, now string) []string {
	old, ok := parse(before)
	if !ok {
		return []string{fmt.Sprintf("stream: %q → %q", before, now)}
	}
	cur, _ := parse(now)
	var changes []string
	diff := func(field, shown, empty string) {
		if old[field] != cur[field] {
			changes = append(changes, fmt.Sprintf("%s: %s → %s", shown, orDefault(old[field], empty), orDefault(cur[field], empty)))
		}
	}
	// The id decides where both know it: a set can be renamed.
	if old[fieldID] != "" && cur[fieldID] != "" {
		diff(fieldID, "deployment (replica set id)", "")
	} else {
		diff(fieldSet, "deployment (replica set)", "none")
	}
	diff(fieldDatabase, "database", "all")
	diff(fieldCollections, "collections", "all")
	diff(fieldExpanded, "expanded events", "off")
	// What a later version of this package may have added.
	known := []string{fieldSet, fieldID, fieldDatabase, fieldCollections, fieldExpanded}
	for _, field := range slices.Sorted(maps.Keys(old)) {
		if !slices.Contains(known, field) {
			diff(field, field, "none")
		}
	}
	return changes
}

// parse reads the text of a fingerprint; false if it is none of ours.
func parse(text string) (map[string]string, bool) {
	fields := map[string]string{}
	for field := range strings.SplitSeq(text, " ") {
		name, value, ok := strings.Cut(field, "=")
		if !ok || name == "" || value == "" {
			return nil, false
		}
		fields[name] = value
	}
	return fields, true
}
