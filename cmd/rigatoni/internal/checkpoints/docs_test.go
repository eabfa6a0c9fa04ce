package checkpoints

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

var jsonBlock = regexp.MustCompile("(?ms)^```json\n(.*?)^```$")

// The page shows what is printed: each example has no field that there isn't, and
// each field is explained.
func TestDocumentedJSON(t *testing.T) {
	page, err := os.ReadFile("../../../../docs/checkpoint.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := jsonBlock.FindAllSubmatch(page, -1)
	documents := []any{&Report{}, &struct {
		Changes []Change `json:"changes"`
	}{}, &Export{}}
	if len(blocks) != len(documents) {
		t.Fatalf("%d examples, want %d", len(blocks), len(documents))
	}
	prose := jsonBlock.ReplaceAllString(string(page), "")
	for i, doc := range documents {
		d := json.NewDecoder(bytes.NewReader(blocks[i][1]))
		d.DisallowUnknownFields()
		if err := d.Decode(doc); err != nil {
			t.Errorf("example %d: %v", i+1, err)
		}
		for name := range namesOf(reflect.TypeOf(doc).Elem()) {
			if !strings.Contains(prose, "`"+name+"`") && !bytes.Contains(blocks[i][1], []byte(`"`+name+`"`)) {
				t.Errorf("the page says nothing of %s", name)
			}
		}
	}
}

// namesOf are the names in the JSON of a type.
func namesOf(typ reflect.Type) map[string]bool {
	names := map[string]bool{}
	switch typ.Kind() {
	case reflect.Pointer, reflect.Slice:
		return namesOf(typ.Elem())
	case reflect.Struct:
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" || typ.PkgPath() != reflect.TypeFor[View]().PkgPath() && typ.Name() != "" {
				continue
			}
			names[name] = true
			for n := range namesOf(f.Type) {
				names[n] = true
			}
		}
	}
	return names
}
