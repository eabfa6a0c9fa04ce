package resumetoken

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// secretToken contains an _id that must not be shown, and the ways in which it
// could be.
func secretToken(t testing.TB) (Token, []string) {
	t.Helper()
	const key = "82687F3418000000012B022C0100296E5A100402029C35AFFD457AA3093B44F7D71C6D463C5F6964003C736563726574000004"
	tok := hexToken(t, key)
	return tok, []string{
		"secret", "736563726574", // the _id, and in hexadecimal
		"_data", key, strings.ToLower(key), key[20:40],
		fmt.Sprintf("%x", key[20:30]), fmt.Sprintf("%X", key[20:30]), fmt.Sprint([]byte(key[20:30])), // as %x, %X and %d print text
		base64.StdEncoding.EncodeToString([]byte(tok.doc))[20:40],
	}
}

func TestPrintingShowsNoContents(t *testing.T) {
	tok, secrets := secretToken(t)
	type holder struct{ Token Token }
	held := []any{tok, &tok, holder{tok}, &holder{tok}, []Token{tok}, map[string]Token{"a": tok}, map[Token]int{tok: 1},
		fmt.Errorf("saving %v: %w", tok, ErrInvalid), struct{ Any any }{tok}}
	var out []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%08.3f", "%T"} {
		for _, h := range held {
			out = append(out, fmt.Sprintf(verb, h))
		}
	}
	for _, h := range held {
		var text, js bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("m", "k", h)
		slog.New(slog.NewJSONHandler(&js, nil)).Info("m", "k", h)
		out = append(out, text.String(), js.String(), fmt.Sprint(h), fmt.Sprintln(h))
		if b, err := json.Marshal(h); err == nil {
			out = append(out, string(b))
		}
	}
	for _, s := range out {
		for _, secret := range secrets {
			if strings.Contains(s, secret) {
				t.Errorf("%q shows %q", s, secret)
			}
		}
	}
}

func TestPrintingShowsWhenAndHowLong(t *testing.T) {
	tok, _ := secretToken(t)
	want := fmt.Sprintf("resume token (2025-07-22T06:47:52Z, %d bytes)", tok.Len())
	js, err := json.Marshal(struct{ T Token }{tok})
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{tok.String(), fmt.Sprintf("%v", tok), fmt.Sprintf("%#v", tok), tok.LogValue().String(),
		strings.TrimSuffix(strings.TrimPrefix(string(js), `{"T":"`), `"}`)} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	for _, c := range []struct {
		tok  Token
		want string
	}{
		{Token{}, "no resume token"},
		{hexToken(t, "0164"), "resume token (opaque, 21 bytes)"},
		{hexToken(t, "8264"), "resume token (malformed, 21 bytes)"},
	} {
		if got := c.tok.String(); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}

func TestLoadingFromJSONIsRefused(t *testing.T) {
	tok, _ := secretToken(t)
	type holder struct{ T Token }
	js, err := json.Marshal(holder{tok})
	if err != nil {
		t.Fatal(err)
	}
	var h holder
	if err := json.Unmarshal(js, &h); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "Parse") {
		t.Errorf("%v, want ErrInvalid and what to use instead", err)
	}
}

func TestNewRefuses(t *testing.T) {
	good, err := bson.Marshal(bson.D{{Key: "_data", Value: "secret"}})
	if err != nil {
		t.Fatal(err)
	}
	event, err := bson.Marshal(bson.D{{Key: "_id", Value: bson.D{{Key: "_data", Value: "secret"}}}, {Key: "operationType", Value: "insert"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		doc  bson.Raw
		want string
	}{
		"nil":                      {nil, "empty"},
		"no bytes":                 {bson.Raw{}, "empty"},
		"garbage":                  {bson.Raw("secret garbage"), "not a BSON document"},
		"a cut document":           {good[:len(good)-1], "not a BSON document"},
		"an empty document":        {bson.Raw{5, 0, 0, 0, 0}, "no _data"},
		"a whole event":            {event, "no _data"},
		"bytes after the document": {append(bytes.Clone(good), 0), "1 bytes follow"},
		"a negative length":        {bson.Raw{0xFF, 0xFF, 0xFF, 0xFF, 0}, "not a BSON document"},
	} {
		tok, err := New(c.doc)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want ErrInvalid about %q", name, err, c.want)
		}
		if !tok.IsZero() {
			t.Errorf("%s: a token and an error", name)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows the contents: %v", name, err)
		}
	}
}

func TestTokenIsItsOwnCopy(t *testing.T) {
	doc, err := bson.Marshal(bson.D{{Key: "_data", Value: "8264"}})
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(doc)
	tok, err := New(doc)
	if err != nil {
		t.Fatal(err)
	}
	doc[len(doc)-3] = 'x'
	if !bytes.Equal(tok.Raw(), before) {
		t.Error("changing the document changed the token")
	}
	tok.Raw()[len(doc)-3] = 'x'
	if !bytes.Equal(tok.Raw(), before) {
		t.Error("changing what Raw gave changed the token")
	}
	if tok.Len() != len(before) || tok.IsZero() {
		t.Errorf("length %d, want %d", tok.Len(), len(before))
	}
}

func TestZeroToken(t *testing.T) {
	var zero Token
	if !zero.IsZero() || zero.Len() != 0 || zero.Raw() != nil {
		t.Error("the zero Token is not empty")
	}
	if _, err := zero.ExtJSON(); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v, want ErrInvalid", err)
	}
}

func TestComparable(t *testing.T) {
	a, b, c := hexToken(t, "8264"), hexToken(t, "8264"), hexToken(t, "8265")
	if a != b || a == c {
		t.Error("== is not equality of the documents")
	}
	if m := map[Token]int{a: 1, c: 2}; m[b] != 1 {
		t.Error("equal tokens are not one key of a map")
	}
}
