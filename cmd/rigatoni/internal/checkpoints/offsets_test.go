package checkpoints

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
)

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func data(t *testing.T, all []Offset, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 {
		t.Fatalf("%d offsets: %+v", len(all), all)
	}
	return all[0].Token.Raw().Lookup("_data").StringValue()
}

// The files were written by the connectors themselves, in Debezium's engine with
// Kafka Connect's FileOffsetBackingStore, against MongoDB 6.0.
func TestOffsetFiles(t *testing.T) {
	all, err := Debezium(read(t, "debezium-3.6.offsets"))
	if got := data(t, all, err); !strings.HasPrefix(got, "826B0CA230000000022B022C0100296E5A1004") || all[0].Name != `shop-connector {"server_id":"shopserver"}` {
		t.Errorf("%s of %s", got, all[0].Name)
	}
	// After the snapshot and before the first event: sec and ord are -1.
	all, err = Debezium(read(t, "debezium-3.6-snapshot.offsets"))
	if got := data(t, all, err); got != "826B0CA251000000012B0229296E04" {
		t.Error(got)
	}
	all, err = MongoKafka(read(t, "mongo-kafka-1.13.offsets"))
	if got := data(t, all, err); !strings.HasPrefix(got, "826B0CA2AD000000022B022C0100296E5A1004") || all[0].Name != `mk-connector {"ns":"mongodb://127.0.0.1:28117/mk.orders"}` {
		t.Errorf("%s of %s", got, all[0].Name)
	}
}

const mark = "826B0CA251000000012B0229296E04"

func TestOffsetForms(t *testing.T) {
	doc, _ := bson.Marshal(bson.D{{Key: "_data", Value: mark}})
	b64 := base64.StdEncoding.EncodeToString(doc)
	const key = `["shop",{"server_id":"s"}]`
	for name, text := range map[string]string{
		"one offset":             `{"sec":1,"ord":2,"resume_token":"` + mark + `"}`,
		"in base64":              `{"sec":-1,"ord":-1,"transaction_id":null,"resume_token":"` + b64 + `"}`,
		"the REST interface":     `{"offsets":[{"partition":{"server_id":"s"},"offset":{"sec":1,"resume_token":"` + mark + `"}}]}`,
		"the topic":              key + "\t" + `{"sec":1,"resume_token":"` + mark + `"}` + "\n",
		"the topic, with spaces": key + " | " + `{"sec":1,"resume_token":"` + mark + `"}`,
		"the last one counts":    key + "\t" + `{"sec":1,"resume_token":"82"}` + "\r\n" + key + "\t" + `{"sec":2,"resume_token":"` + mark + `"}` + "\n",
		"another was removed":    `["old",{"server_id":"s"}]` + "\t" + `{"sec":1,"resume_token":"82"}` + "\n" + key + "\t" + `{"sec":2,"resume_token":"` + mark + `"}` + "\n" + `["old",{"server_id":"s"}]` + "\tnull\n",
	} {
		t.Run(name, func(t *testing.T) {
			all, err := Debezium([]byte(text))
			if got := data(t, all, err); got != mark {
				t.Error(got)
			}
		})
	}
	all, err := MongoKafka([]byte(`["c",{"ns":"mongodb://h/shop.orders"}]` + "\t" + `{"_id":"{\"_data\": \"` + mark + `\"}"}`))
	if got := data(t, all, err); got != mark {
		t.Error(got)
	}
}

func TestOffsetsThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		text, want string
		read       func([]byte) ([]Offset, error)
	}{
		"a snapshot that runs":   {`{"sec":1,"ord":1,"initsync":true,"resume_token":"` + mark + `"}`, "initial snapshot has not finished", Debezium},
		"an old Debezium":        {`{"sec":1,"ord":1,"h":12}`, "--to-time SECONDS.ORDINAL", Debezium},
		"a copy that runs":       {`{"_id":"{\"_data\": \"` + mark + `\"}","copy":"true"}`, "not finished to copy", MongoKafka},
		"the other tool's":       {`{"sec":1,"resume_token":"` + mark + `"}`, "use import debezium", MongoKafka},
		"the other way round":    {`{"_id":"{\"_data\": \"` + mark + `\"}"}`, "use import mongo-kafka", Debezium},
		"neither's":              {`{"id":1}`, "it has no _id", MongoKafka},
		"a token that is none":   {`{"resume_token":"zz"}`, "no resume token", Debezium},
		"no JSON":                {"resume_token=82", "it has none of the forms", Debezium},
		"empty":                  {"", "it has none of the forms", Debezium},
		"an empty answer":        {`{"offsets":[]}`, "there are no offsets", Debezium},
		"a file with no HashMap": {"\xac\xed\x00\x05x", "it has none of the forms", Debezium},
		"a key alone":            {`["shop",{"server_id":"s"}]`, "it has none of the forms", Debezium},
		"a list":                 {`[1,2]`, "it has none of the forms", Debezium},
	} {
		t.Run(name, func(t *testing.T) {
			all, err := c.read([]byte(c.text))
			if err == nil {
				_, err = Choose(all, "")
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), mark) {
				t.Errorf("%v has the token", err)
			}
		})
	}
}

// An offsets file that is cut off anywhere is refused, and so is one with any byte of
// its structure changed, or it still gives the same token.
func TestDamagedOffsetFile(t *testing.T) {
	whole := read(t, "debezium-3.6.offsets")
	all, err := Debezium(whole)
	want := data(t, all, err)
	for n := range whole {
		if all, err := Debezium(whole[:n]); err == nil {
			t.Errorf("the first %d bytes gave %+v", n, all)
		}
	}
	for i := range bytes.IndexByte(whole, '[') {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 0xff
		if all, err := Debezium(damaged); err == nil && data(t, all, nil) != want {
			t.Errorf("byte %d changed: another token", i)
		}
	}
}

func TestChoose(t *testing.T) {
	all := []Offset{{Name: `a {"ns":"x"}`}, {Name: `b {"ns":"x"}`}, {Name: "c", Unusable: "why"}}
	if o, err := Choose(all, "b {"); err != nil || o.Name != all[1].Name {
		t.Errorf("%v, %v", o, err)
	}
	for text, want := range map[string]string{"": "choose one with --from-name: a {", "x": "2 offsets have", "z": "0 offsets have", "c": "can't be taken over: why"} {
		if _, err := Choose(all, text); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// An offset without a name leaves no hole in the sentence.
func TestChooseUnnamed(t *testing.T) {
	_, err := Choose([]Offset{{Unusable: "why"}}, "")
	if want := ErrRefused.Error() + ": the offset can't be taken over: why"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// What the server said, and why there is a gap, is in users' words.
func TestReportsAreInUsersWords(t *testing.T) {
	if v := verdict(errors.New("changestream: shop: no")); v.Answer != "shop: no" {
		t.Errorf("the verdict: %s", v.Answer)
	}
	if text := gapText(rigatoni.Gap{Reason: "changestream: shop: no", Policy: "p"}); !strings.Contains(text, ": shop: no (p)") || strings.Contains(text, "changestream") {
		t.Errorf("the gap: %s", text)
	}
}

func TestParseToken(t *testing.T) {
	doc, _ := bson.Marshal(bson.D{{Key: "_data", Value: mark}})
	bits, _ := bson.Marshal(bson.D{{Key: "_data", Value: mark}, {Key: "_typeBits", Value: bson.Binary{Data: []byte{0}}}})
	canonical, _ := bson.MarshalExtJSON(bson.Raw(bits), true, false)
	quoted, _ := json.Marshal(mark)
	for name, c := range map[string]struct {
		text string
		want bson.Raw
	}{
		"JSON":             {`{"_data": "` + mark + `"}`, doc},
		"the shell's":      {`{ _data: '` + mark + "' }\n", doc},
		"Extended JSON":    {string(canonical), bits},
		"digits":           {" " + mark + "\n", doc},
		"digits in quotes": {string(quoted), doc},
		"BSON":             {string(bits), bits},
		"base64":           {base64.StdEncoding.EncodeToString(bits), bits},
		"hexadecimal BSON": {hex.EncodeToString(bits), bits},
	} {
		if got, err := ParseToken([]byte(c.text)); err != nil || !bytes.Equal(got.Raw(), c.want) {
			t.Errorf("%s: %v, %v", name, got.Raw(), err)
		}
	}
	for _, text := range []string{"", "{}", `{"_id": {"_data": "` + mark + `"}}`, "82", "deadbeef", mark[:20], "now", `{"_data": "826B0CA251"}`, "{_data", strings.Repeat("A", 100)} {
		if got, err := ParseToken([]byte(text)); !errors.Is(err, ErrNoToken) {
			t.Errorf("%q: %v, %v", text, got.Raw(), err)
		}
	}
}
