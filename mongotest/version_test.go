package mongotest

import (
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni/resumetoken"
)

// Tokens of newer servers: version 2 by default, and version 1 for a stream
// that requests it.
func TestV2Tokens(t *testing.T) {
	for _, v2 := range []bool{false, true} {
		s, err := Listen(t.Context(), Options{V2Tokens: v2})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		byDefault := resumetoken.FormatV1
		if v2 {
			byDefault = resumetoken.FormatV2
		}
		for field, want := range map[string]resumetoken.Format{"": byDefault, `, "$_generateV2ResumeTokens": false`: resumetoken.FormatV1, `, "$_generateV2ResumeTokens": true`: resumetoken.FormatV2} {
			sc := &script{t: t, client: dial(t, s.URI()), db: "shop", values: map[string]bson.RawValue{}, cursors: map[string]int64{}}
			sc.open("w", `{"aggregate": "c", "pipeline": [{"$changeStream": {}}], "cursor": {}`+field+`}`)
			mark := sc.values["w.mark"]
			sc.run(`{"insert": "c", "documents": [{}]}`)
			sc.more("w", "c")
			for _, token := range []bson.RawValue{mark, sc.values["w.0"]} {
				d, err := readToken(token.Document())
				if err != nil || d.Format != want {
					t.Errorf("V2Tokens %v, a stream with %q: a token of %v, %v, want %v", v2, field, d.Format, err, want)
				}
			}
		}
	}
}
