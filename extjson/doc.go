// Package extjson writes BSON as JSON, fast: it walks the bytes of a document
// once and appends text to a buffer, without decoding values into Go types.
//
// [Append] writes a document and [AppendValue] a single value, in one of three
// forms:
//
//   - [Relaxed] and [Canonical] are the two forms of MongoDB Extended JSON v2.
//     The text is byte for byte that of bson.MarshalExtJSON(doc, canonical,
//     false), with the exceptions below.
//   - [Simplified] is plain JSON for people, SQL and tools that know nothing of
//     MongoDB. It cannot be converted back: several BSON types have one form.
//
// # Simplified
//
//	BSON type             JSON
//	double                number, with "." or "E": 12.0; "NaN", "Infinity" and "-Infinity" as strings
//	int32, int64          number, with all its digits (some readers round beyond 2^53)
//	decimal128            string: "12.50", "NaN", "Infinity"
//	string, symbol, code  string
//	object, array         object, array
//	objectId              string of 24 hexadecimal digits: "65a1…"
//	date                  string, RFC 3339 in UTC with milliseconds: "2026-11-29T18:51:02.000Z"
//	timestamp             {"t":seconds,"i":increment}
//	binary                string, base64 with padding; a UUID (subtype 4) as "00112233-4455-6677-8899-aabbccddeeff"
//	boolean, null         true, false, null
//	undefined             null
//	regular expression    {"pattern":"^a","options":"im"}
//	code with scope       {"code":"…","scope":{…}}
//	DBPointer             {"$ref":"db.coll","$id":"65a1…"}, as a DBRef is written
//	minKey, maxKey        "MinKey", "MaxKey"
//
// RFC 3339 has the years 0000 to 9999. Dates outside of them are written with a
// sign and at least six digits of year, as JavaScript's toISOString does:
// "+012026-01-01T00:00:00.000Z", "-000001-12-31T00:00:00.000Z".
//
// # All forms
//
// The text never contains a line break, also none of those that only some
// readers split lines at: U+0085 is escaped, as U+2028 and U+2029 are. (The
// driver's encoder does not escape U+0085.) A byte that is not valid UTF-8
// becomes U+FFFD, as the driver has it: a MongoDB server stores such strings, and
// one of them must not stop a stream. The namespace of a DBPointer is escaped as
// any string is. (The driver's encoder writes it as it is, and a quote in it makes
// invalid JSON.)
//
// Keys keep their order; a key that a document has twice is written twice.
//
// Malformed BSON is an error, never a panic, and so is a document that nests
// deeper than 1,000 levels. (The driver's recursion has no bound; a MongoDB
// server refuses more than 250 levels.) Errors quote nothing of the document.
package extjson
