package mongotest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/mongotest/internal/bsondoc"
	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// A script is a dialog with a server, recorded so that two servers' can be
// compared: values that differ from run to run are replaced by names.
type script struct {
	t      *testing.T
	client *wireClient
	server *Server // nil for a real one
	db     string
	out    strings.Builder

	values  map[string]bson.RawValue
	cursors map[string]int64
	hits    map[string]int64 // of a fail point, when it was first set
	times   []bson.Timestamp
	uuids   []string
	oids    []bson.ObjectID
}

// volatile are fields that are left out of the transcript.
var volatile = []string{"$clusterTime", "operationTime", "signature", "electionId", "topologyVersion", "opTime"}

// run sends a command to the script's database, or to admin if it begins with
// "admin ". Strings "@name" in it stand for values stored before, and DB for
// the database's name.
func (s *script) run(command string) bson.Raw {
	s.t.Helper()
	db := s.db
	text, admin := strings.CutPrefix(command, "admin ")
	if admin {
		db = "admin"
	}
	fmt.Fprintf(&s.out, "> %s\n", s.mask(command))
	reply := s.client.call(db, s.parse(text))
	fmt.Fprintf(&s.out, "%s\n", s.show(bsondoc.Value(reply)))
	return reply
}

func (s *script) parse(text string) bson.D {
	s.t.Helper()
	var d bson.D
	text = database.ReplaceAllLiteralString(text, s.db)
	if err := bson.UnmarshalExtJSON([]byte(text), false, &d); err != nil {
		s.t.Fatalf("%s: %v", text, err)
	}
	return s.substitute(d).(bson.D)
}

func (s *script) substitute(v any) any {
	switch v := v.(type) {
	case bson.D:
		for i := range v {
			v[i].Value = s.substitute(v[i].Value)
		}
	case bson.A:
		for i := range v {
			v[i] = s.substitute(v[i])
		}
	case string:
		if name, ok := strings.CutPrefix(v, "@"); ok {
			value, ok := s.values[name]
			if !ok {
				s.t.Fatalf("nothing is kept as %q", name)
			}
			return value
		}
	}
	return v
}

func (s *script) note(format string, args ...any) { fmt.Fprintf(&s.out, "# "+format+"\n", args...) }

func (s *script) keep(name string, v bson.RawValue) {
	s.t.Helper()
	if v.Type == 0 {
		s.t.Fatalf("there is no value for %q\n%s", name, s.out.String())
	}
	s.values[name] = v
}

// watch opens a stream of the script's database on a collection (1 for the
// database), and stores its cursor under a name, its mark as name.mark and the
// events' tokens as name.0, name.1 and so on.
func (s *script) watch(name, coll, stages string) {
	s.t.Helper()
	s.open(name, `{"aggregate": `+coll+`, "pipeline": `+stages+`, "cursor": {}}`)
}

func (s *script) open(name, command string) {
	s.t.Helper()
	reply := s.run(command)
	if id, ok := reply.Lookup("cursor", "id").Int64OK(); ok {
		s.cursors[name] = id
		s.keepEvents(name, reply, "firstBatch")
	}
}

func (s *script) keepEvents(name string, reply bson.Raw, batch string) {
	if mark := reply.Lookup("cursor", "postBatchResumeToken"); mark.Type != 0 {
		s.keep(name+".mark", mark)
	}
	for i, v := range bsondoc.Items(reply.Lookup("cursor", batch)) {
		s.keep(fmt.Sprintf("%s.%d", name, i), v.Document().Lookup("_id"))
	}
}

// more continues to read. options are further fields, each with a comma before
// it.
func (s *script) more(name, coll string, options ...string) bson.Raw {
	s.t.Helper()
	s.values["id"] = bsondoc.Int64(s.cursors[name])
	reply := s.run(`{"getMore": "@id", "collection": "` + coll + `", "maxTimeMS": 50` + strings.Join(options, "") + `}`)
	s.keepEvents(name, reply, "nextBatch")
	return reply
}

var (
	database   = regexp.MustCompile(`\bDB\b`) // and not in a token's digits
	longNumber = regexp.MustCompile(`\b\d{9,}\b`)
	hexToken   = regexp.MustCompile(`\b82[0-9A-Fa-f]{14,}`)
	anyUUID    = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	cursorID   = regexp.MustCompile(`cursor (id )?\d{9,}`) // which may begin as a token does
	recordID   = regexp.MustCompile(`RecordId\(\d+\)`)
	someTime   = regexp.MustCompile(`Timestamp\(\d{9,}, \d+\)`)
	engine     = regexp.MustCompile(`WiredTiger[^;]*; uri: \S+ :: caused by :: `)
	objectSize = regexp.MustCompile(`size: \d+ \(0x[0-9A-F]+\)`) // the database's name is part of it
)

// show formats a value, with names for what varies.
func (s *script) show(v bson.RawValue) string {
	switch v.Type {
	case bson.TypeEmbeddedDocument:
		return s.showDoc(v.Document())
	case bson.TypeArray:
		var parts []string
		for _, item := range bsondoc.Items(v) {
			parts = append(parts, s.show(item))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case bson.TypeTimestamp:
		t, i := v.Timestamp()
		return s.time(bson.Timestamp{T: t, I: i})
	case bson.TypeDateTime:
		return "date"
	case bson.TypeObjectID:
		return "oid" + strconv.Itoa(numbered(&s.oids, v.ObjectID()))
	case bson.TypeBinary:
		if subtype, data := v.Binary(); subtype == bson.TypeBinaryUUID {
			return s.uuid(string(data))
		}
	case bson.TypeInt64:
		if v.Int64() > 1<<32 {
			return "long"
		}
		return strconv.FormatInt(v.Int64(), 10) + "L"
	case bson.TypeString:
		if text := v.StringValue(); len(text) > 1000 {
			return fmt.Sprintf("%q... (%d bytes)", text[:3], len(text))
		}
		return strconv.Quote(s.mask(v.StringValue()))
	case bson.TypeDouble, bson.TypeInt32, bson.TypeNull, bson.TypeBoolean:
		return bsondoc.Shell(v)
	}
	return v.String()
}

func (s *script) mask(text string) string {
	text = strings.ReplaceAll(text, s.db, "DB")
	text = cursorID.ReplaceAllString(text, "cursor ${1}<number>")
	text = hexToken.ReplaceAllString(text, "<token>")
	text = anyUUID.ReplaceAllString(text, "<uuid>")
	text = recordID.ReplaceAllString(text, "<record>")
	text = someTime.ReplaceAllString(text, "<time>")
	text = engine.ReplaceAllString(text, "")
	text = objectSize.ReplaceAllString(text, "size: <number>")
	return longNumber.ReplaceAllString(text, "<number>")
}

func (s *script) showDoc(doc bson.Raw) string {
	if data, err := doc.LookupErr("_data"); err == nil && data.Type == bson.TypeString {
		if token, err := resumetoken.New(doc); err == nil {
			if d, err := token.Decode(); err == nil {
				return s.showToken(d)
			}
		}
	}
	var parts []string
	for _, e := range bsondoc.Fields(doc) {
		if !slices.Contains(volatile, e.Key()) {
			parts = append(parts, e.Key()+": "+s.show(e.Value()))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func (s *script) showToken(d resumetoken.Decoded) string {
	var parts []string
	add := func(when bool, text string) {
		if when {
			parts = append(parts, text)
		}
	}
	// The time of a high-water mark means nothing unless it is an event's.
	if !d.HighWaterMark || slices.Contains(s.times, d.ClusterTime) || d.ClusterTime.T < 1000 {
		add(true, s.time(d.ClusterTime))
	}
	add(d.Format != resumetoken.FormatV1, d.Format.String())
	add(d.TxnOpIndex != 0, "op"+strconv.Itoa(d.TxnOpIndex))
	add(d.FromInvalidate, "fromInvalidate")
	add(!d.UUID.IsZero(), s.uuid(string(d.UUID[:])))
	add(d.OperationType != "", d.OperationType)
	if d.DocumentKey != nil {
		add(true, s.showDoc(d.DocumentKey))
	}
	if d.OperationDescription != nil {
		add(true, s.showDoc(d.OperationDescription))
	}
	add(d.IsFragment, "fragment"+strconv.Itoa(d.Fragment))
	name := "ev"
	if d.HighWaterMark {
		name = "hwm"
	}
	return name + "(" + strings.Join(parts, " ") + ")"
}

func (s *script) time(ts bson.Timestamp) string {
	if ts.T < 1000 {
		return fmt.Sprintf("Timestamp(%d,%d)", ts.T, ts.I)
	}
	return "T" + strconv.Itoa(numbered(&s.times, ts))
}

func (s *script) uuid(u string) string { return "U" + strconv.Itoa(numbered(&s.uuids, u)) }

// numbered numbers values by their first appearance, from 1.
func numbered[T comparable](seen *[]T, v T) int {
	i := slices.Index(*seen, v)
	if i < 0 {
		*seen = append(*seen, v)
		i = len(*seen) - 1
	}
	return i + 1
}
