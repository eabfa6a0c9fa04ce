package config

import (
	"encoding/json"
	"strings"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/backend"
	"github.com/rigatoni-etl/rigatoni/internal/option"
)

// Schema is the JSON schema of the pipeline file, for editors.
func Schema() []byte {
	properties := map[string]any{}
	for _, f := range Fields {
		switch {
		case f.Option.Once:
		case f.Kinds != nil:
			properties[f.Option.Name] = backendSchema(f)
		default:
			properties[f.Option.Name] = f.Option.Schema()
		}
	}
	text, err := json.MarshalIndent(map[string]any{
		"$schema":              "https://json-schema.org/draft/2020-12/schema",
		"title":                "Pipeline of rigatoni",
		"description":          "What rigatoni run reads, and how. rigatoni validate finds the mistakes that a schema can't express.",
		"type":                 "object",
		"properties":           properties,
		"additionalProperties": false,
	}, "", "  ")
	if err != nil {
		panic(err) // it is made of texts and numbers
	}
	return append(text, '\n')
}

// backendSchema is that of a URL, or of a mapping with the URL and the options of the
// back end that it names.
func backendSchema(f Field) map[string]any {
	text := map[string]any{"type": "string", "pattern": `^([A-Za-z][A-Za-z0-9+]*:|memory$)|\$\{`}
	all := []any{text}
	everyOption := map[string]any{"url": map[string]any{"type": "string", "pattern": `\$\{`}}
	for _, k := range f.Kinds {
		url := map[string]any{"type": "string", "description": forms(k), "pattern": "^(" + strings.ReplaceAll(strings.Join(k.Schemes, "|"), "+", `\+`) + "):"}
		if k.Name() == "memory" {
			url["pattern"] = "^memory:?$"
		}
		properties := map[string]any{"url": url}
		for _, o := range option.Of(k.Options()) {
			properties[o.Name] = o.Schema()
			everyOption[o.Name] = o.Schema()
		}
		all = append(all, mapping(properties))
	}
	all = append(all, mapping(everyOption))
	return map[string]any{"description": f.Option.Help, "anyOf": all}
}

func mapping(properties map[string]any) map[string]any {
	return map[string]any{"type": "object", "properties": properties, "required": []any{"url"}, "additionalProperties": false}
}

func forms(k *backend.Kind) string {
	var all []string
	for _, form := range k.Forms {
		all = append(all, form[0]+": "+form[1])
	}
	return strings.Join(all, "; ")
}
