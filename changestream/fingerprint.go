package changestream

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rigatoni-etl/rigatoni"
)

// A deployment is identified by the id that a replica set gets when it is
// initiated, or by the set's name where the id can't be read.
type deployment struct{ set, id string }

// with returns the deployment with the id in a checkpoint's fingerprint, if this one's
// can't be read now and may be that: a user with fewer rights must not erase it.
func (d deployment) with(checkpoint string) deployment {
	if old, ok := parse(checkpoint); ok && d.id == "" && old[fieldSet] == escaper.Replace(d.set) {
		d.id = old[fieldID]
	}
	return d
}

// A fingerprint identifies the stream that a token belongs to. Its text is for
// people too:
//
//	set=rs0 id=6b05be5cbb3b51667e6426c6 database=shop collections=log_*,orders pipeline=sha256:0f343b0931126a20
//
// Fields that are empty are left out; in values the characters space, comma, "="
// and "%" are percent-encoded.
type fingerprint struct {
	deployment deployment
	scope      scope
}

const (
	fieldSet         = "set"
	fieldID          = "id"
	fieldDatabase    = "database"
	fieldCollections = "collections"
	fieldOperations  = "operations"
	fieldExpanded    = "expandedEvents"
	fieldPipeline    = "pipeline"
)

var escaper = strings.NewReplacer("%", "%25", " ", "%20", ",", "%2C", "=", "%3D", "\n", "%0A", "\r", "%0D", "\t", "%09")

func (f fingerprint) String() string {
	var fields []string
	add := func(field, value string) {
		if value != "" {
			fields = append(fields, field+"="+value)
		}
	}
	add(fieldSet, escaper.Replace(f.deployment.set))
	add(fieldID, escaper.Replace(f.deployment.id))
	add(fieldDatabase, escaper.Replace(f.scope.database))
	add(fieldCollections, listed(f.scope.collections))
	add(fieldOperations, listed(f.scope.operations))
	if f.scope.expanded {
		add(fieldExpanded, "on")
	}
	add(fieldPipeline, f.scope.pipeline.id)
	return strings.Join(fields, " ")
}

func listed(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = escaper.Replace(n)
	}
	return strings.Join(out, ",")
}

// accept is what the operator repeats to accept a change. It identifies both
// streams, so that one left in a unit file accepts that change and no later one.
func accept(before, now string) string {
	sum := sha256.Sum256([]byte(before + "\n" + now))
	return hex.EncodeToString(sum[:6])
}

// compare returns a [rigatoni.ChangedStreamError] if a checkpoint's fingerprint is
// of another stream. An empty one says nothing.
func (f fingerprint) compare(checkpoint string) error {
	ours := f.String()
	if checkpoint == "" || checkpoint == ours {
		return nil
	}
	changes := differences(checkpoint, ours)
	if len(changes) == 0 {
		return nil
	}
	for i, c := range changes {
		if strings.HasPrefix(c, fieldPipeline+": ") && f.scope.pipeline.text != "" {
			changes[i] = c + ", which is " + f.scope.pipeline.text
		}
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
			changes = append(changes, fmt.Sprintf("%s: %s → %s", shown, cmp.Or(old[field], empty), cmp.Or(cur[field], empty)))
		}
	}
	// The id decides where both have it: a set can be renamed.
	if old[fieldID] != "" && cur[fieldID] != "" {
		diff(fieldID, "deployment (replica set id)", "")
	} else {
		diff(fieldSet, "deployment (replica set)", "none")
	}
	diff(fieldDatabase, "database", "all")
	diff(fieldCollections, "collections", "all")
	diff(fieldOperations, "operations", "all")
	diff(fieldExpanded, "expanded events", "off")
	diff(fieldPipeline, "pipeline", "none")
	// What a later version of this package may have added.
	known := []string{fieldSet, fieldID, fieldDatabase, fieldCollections, fieldOperations, fieldExpanded, fieldPipeline}
	for _, field := range slices.Sorted(maps.Keys(old)) {
		if !slices.Contains(known, field) {
			diff(field, field, "none")
		}
	}
	return changes
}

// parse parses the text of a fingerprint; ok is false if it isn't one of ours.
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
