package extjson

import (
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func BenchmarkAppend(b *testing.B) {
	raw := must(b, event(7, ""))
	raw = must(b, event(7, strings.Repeat("some words ", (680-len(raw))/11)))
	for m := Relaxed; m <= Simplified; m++ {
		b.Run(m.String(), func(b *testing.B) {
			var buf []byte
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				buf, _ = Append(buf[:0], raw, m)
			}
		})
	}
	b.Run("driver, relaxed", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			_, _ = bson.MarshalExtJSON(raw, false, false)
		}
	})
}
