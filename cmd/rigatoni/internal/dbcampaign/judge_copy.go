package dbcampaign

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// LogWithCopy says what is wrong with the tables, one row an event, of a pipeline that
// began with a copy. Of each document they have
//
//   - where it was there when its place was copied, one row as it was then, and otherwise
//     none; and
//   - every change since, once, in order, with the document as the change left it.
//
// There is no change from before, with one exception: a copy that was resumed delivers
// deletes of documents that aren't copied yet. What was made before the pipeline's start
// is from before, and what was made after the copy is from since.
func (p Postgres) LogWithCopy(ctx context.Context, j Journal) ([]string, error) {
	var f faults
	for _, coll := range p.Colls {
		rows, _, err := p.logged(ctx, coll)
		if err != nil {
			return nil, err
		}
		for d, changes := range j {
			if d.Coll != coll {
				continue
			}
			id := idText(d.id(1))
			compareCopied(&f, d.Name(), rows[id], changes)
			delete(rows, id)
		}
		for _, id := range slices.Sorted(maps.Keys(rows)) {
			f.add("%s has %d rows of the _id %s, which was never written", coll, len(rows[id]), id)
		}
	}
	return f.all(), nil
}

// compareCopied compares the rows of a document with what was written, where the
// documents were copied.
func compareCopied(f *faults, name string, rows []logged, changes []Change) {
	copies := 0
	for i, r := range rows {
		if r.op == "read" {
			copies++
		}
		switch {
		case r.name != nil && *r.name != name:
			f.add("%s: event %d is one of %s", name, i+1, *r.name)
			return
		case r.early:
			f.add("%s: event %d is not after the one before, by its version", name, i+1)
			return
		case copies > 1:
			f.add("%s: event %d is a second copy of it", name, i+1)
			return
		}
	}
	if !fitsAnywhere(rows, changes) {
		f.add("%s: %s arrived, which doesn't follow from what was written: %s", name, events(rows), history(changes))
	}
}

// fitsAnywhere reports whether the rows are what a copy delivers that reads the document
// after some number of its changes.
func fitsAnywhere(rows []logged, changes []Change) bool {
	first := count(changes, func(c Change) bool { return c.When == Before })
	last := len(changes) - count(changes, func(c Change) bool { return c.When == After })
	for copied := first; copied <= last; copied++ {
		if fits(rows, changes[first:copied], changes[copied:], copied == 0 || changes[copied-1].Op == "delete", copied) {
			return true
		}
	}
	return false
}

// fits reports whether the rows are what a copy delivers that comes to the document's
// place between the changes not yet copied and those since. Versions count the changes.
func fits(rows []logged, before, since []Change, gone bool, version int) bool {
	lead := len(rows) - len(since)
	if !gone {
		lead--
	}
	if lead < 0 || lead > count(before, func(c Change) bool { return c.Op == "delete" }) {
		return false
	}
	for _, r := range rows[:lead] {
		if r.op != "delete" {
			return false
		}
	}
	rows = rows[lead:]
	if !gone {
		if rows[0].op != "read" || rows[0].version != version {
			return false
		}
		rows = rows[1:]
	}
	for i, c := range since {
		if r := rows[i]; r.op != c.Op || c.Op != "delete" && r.version != c.Version {
			return false
		}
	}
	return true
}

func count(changes []Change, which func(Change) bool) (n int) {
	for _, c := range changes {
		if which(c) {
			n++
		}
	}
	return n
}

func events(rows []logged) string {
	var all []string
	for _, r := range rows {
		all = append(all, strings.TrimSuffix(fmt.Sprint(r.op, " ", r.version), " 0"))
	}
	if all == nil {
		return "nothing"
	}
	return strings.Join(all, ", ")
}

func history(changes []Change) string {
	var all []string
	for _, c := range changes {
		all = append(all, fmt.Sprint(c.Op, " ", c.Version, []string{"", " (before the start)", " (after the copy)"}[c.When]))
	}
	return strings.Join(all, ", ")
}

// idText is what the column _id must have for one of the campaign's _ids.
func idText(id any) string {
	switch id := id.(type) {
	case bson.MinKey:
		return "MinKey"
	case bson.MaxKey:
		return "MaxKey"
	case nil:
		return "null"
	case float64:
		return strings.Replace(strconv.FormatFloat(id, 'f', -1, 64), "Inf", "Infinity", 1)
	case string:
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(id) + `"`
	case bson.ObjectID:
		return hex.EncodeToString(id[:])
	case bson.DateTime:
		return id.Time().UTC().Format("2006-01-02T15:04:05.000Z")
	case bson.Decimal128:
		return strings.TrimSuffix(id.String(), ".000")
	case bson.Timestamp:
		return fmt.Sprintf(`{"$timestamp":{"t":%d,"i":%d}}`, id.T, id.I)
	case bson.JavaScript:
		return fmt.Sprintf(`{"$code":"%s"}`, string(id))
	case bson.D:
		if len(id) == 0 {
			return "{}"
		}
		return fmt.Sprintf(`{"b":%d,"a":["%s",null]}`, id[0].Value, id[1].Value.(bson.A)[0])
	case bson.Binary:
		if id.Subtype == bson.TypeBinaryUUID {
			x := hex.EncodeToString(id.Data)
			return strings.Join([]string{x[:8], x[8:12], x[12:16], x[16:20], x[20:]}, "-")
		}
		return fmt.Sprintf(`{"$binary":{"base64":"%s","subType":"%02x"}}`, base64.StdEncoding.EncodeToString(id.Data), id.Subtype)
	default: // an integer or a boolean
		return fmt.Sprint(id)
	}
}
