package extjson

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func seeds(f *testing.F) {
	f.Add([]byte(must(f, event(1, "x"))))
	f.Add([]byte(must(f, event(2, "a\u0085b\u2028\"\\\xff and a text that is longer than a word"))))
	f.Add([]byte(doc(bson.TypeCodeWithScope, append(append([]byte{15, 0, 0, 0}, text32("a")...), 5, 0, 0, 0, 0))))
	f.Add([]byte(doc(bson.TypeBinary, []byte{6, 0, 0, 0, 2, 1, 0, 0, 0, 'a', 'b'})))
	f.Add([]byte(doc(bson.TypeBinary, append([]byte{16, 0, 0, 0, 4}, make([]byte, 16)...))))
	f.Add([]byte(doc(bson.TypeRegex, []byte("a\x00xmi\x00"))))
	f.Add([]byte(doc(bson.TypeDBPointer, append(text32("a.b"), make([]byte, 12)...))))
	f.Add([]byte(doc(bson.TypeDecimal128, make([]byte, 16))))
	f.Add([]byte(doc(bson.TypeDateTime, []byte{0, 0, 0, 0, 0, 0, 0, 0x80})))
	f.Add([]byte(doc(bson.TypeArray, must(f, bson.D{{Key: "0", Value: math.Pi}, {Key: "1", Value: "\xff\u2028"}}))))
}

// FuzzAppend compares the encoder with the driver's for bytes of any kind: never
// a panic, an error where the driver has one, and otherwise the same text.
func FuzzAppend(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, m := range []Mode{Relaxed, Canonical} {
			want, wantErr := bson.MarshalExtJSON(bson.Raw(data), m == Canonical, false)
			got, err := Append(nil, data, m)
			if err != nil {
				if wantErr == nil && bson.Raw(data).Validate() == nil && !bytes.Contains(data, []byte{byte(bson.TypeCodeWithScope)}) && int(binary.LittleEndian.Uint32(data)) == len(data) {
					t.Fatalf("%v, where the driver writes %s", err, want)
				}
				continue
			}
			checkLine(t, got)
			if wantErr != nil {
				t.Fatalf("got %s, where the driver says %v", got, wantErr)
			}
			want = bytes.ReplaceAll(want, []byte("\u0085"), []byte(`\u0085`))
			if string(got) != string(want) && !bytes.Contains(got, []byte("$dbPointer")) {
				t.Fatalf("got %s, want %s", got, want)
			}
		}
	})
}

// FuzzSimplified: the simplified form accepts what the relaxed form accepts, and
// is the text that a plain reading of the document gives.
func FuzzSimplified(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Append(nil, data, Simplified)
		_, relaxedErr := Append(nil, data, Relaxed)
		if (err == nil) != (relaxedErr == nil) {
			t.Fatalf("simplified: %v, relaxed: %v", err, relaxedErr)
		}
		if err != nil {
			return
		}
		checkLine(t, got)
		if bson.Raw(data).Validate() != nil {
			return // the reference reads less than the encoder
		}
		var d bson.D
		if bson.Unmarshal(data, &d) == nil && json.Valid(got) {
			if want := plainly(d); string(got) != want {
				t.Fatalf("got %s, want %s", got, want)
			}
		}
	})
}
