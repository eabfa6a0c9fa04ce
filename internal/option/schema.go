package option

import (
	"cmp"
	"strconv"
	"strings"
)

// Schema is the JSON schema of the option's value in YAML, where a text may have
// ${NAME} in it. It takes what Set takes; some of what Set refuses, a schema can't
// express.
func (o Option) Schema() map[string]any {
	s := o.valueSchema()
	s["description"] = o.description()
	if o.Default != "" {
		s["default"] = o.schemaDefault()
	}
	return s
}

func (o *Option) description() string {
	text := o.Help
	if o.Off != "" {
		text += "; off: " + o.Off
	}
	return text
}

// schemaDefault is the default as it is written in YAML.
func (o *Option) schemaDefault() any {
	if n, err := strconv.Atoi(o.Default); err == nil && o.kind == number {
		return n
	}
	return o.Default
}

// filledIn is the schema of a text that is not known yet.
var filledIn = map[string]any{"type": "string", "pattern": `\$\{`}

// Any is the schema that takes what one of several takes.
func anyOf(all ...map[string]any) map[string]any {
	list := make([]any, len(all))
	for i, s := range all {
		list[i] = s
	}
	return map[string]any{"anyOf": list}
}

func texts(pattern string) map[string]any {
	return map[string]any{"type": "string", "pattern": pattern}
}

func (o *Option) valueSchema() map[string]any {
	switch o.kind {
	case boolean:
		return anyOf(map[string]any{"type": "boolean"}, texts(`^([Tt]rue|TRUE|[Ff]alse|FALSE|[Yy]es|YES|[Nn]o|NO|[Oo]n|ON|[Oo]ff|OFF|[YyNnTtFf01])$`), map[string]any{"enum": []any{0, 1}}, filledIn)
	case number, size, duration:
		return o.numberSchema()
	case list:
		items := o.textSchema()
		return anyOf(map[string]any{"type": "array", "items": items, "minItems": 1, "uniqueItems": true}, map[string]any{"type": "string", "minLength": 1})
	case custom:
		if o.Arg == "JSON" {
			return anyOf(map[string]any{"type": "array"}, texts(`^\s*\[`), filledIn)
		}
	}
	return o.textSchema()
}

// textSchema is that of one text. YAML has names that look like numbers.
func (o *Option) textSchema() map[string]any {
	switch {
	case o.OneOf != nil:
		return anyOf(map[string]any{"enum": anys(o.OneOf)}, filledIn)
	case o.pattern != nil:
		inner := strings.TrimSuffix(strings.TrimPrefix(o.pattern.String(), `(?s)\A(?:`), `)\z`)
		all := []map[string]any{texts("^(" + inner + ")$"), filledIn}
		if o.pattern.MatchString("7") {
			all = append(all, map[string]any{"type": []any{"number", "boolean"}})
		}
		return anyOf(all...)
	}
	return map[string]any{"type": []any{"string", "number", "boolean"}, "minLength": 1}
}

func anys(all []string) []any {
	list := make([]any, len(all))
	for i, s := range all {
		list[i] = s
	}
	return list
}

// patterns of the texts that are numbers.
var numbers = map[kind]string{
	number:   `[+-]?[0-9]+`,
	size:     `[0-9]+( *([kKmMgGtT][iI]?)?[bB])?`,
	duration: `[+]?([0-9]*\.?[0-9]+(ns|us|µs|μs|ms|s|m|h))+|0`,
}

func (o *Option) numberSchema() map[string]any {
	pattern := numbers[o.kind]
	var all []map[string]any
	if o.kind != duration {
		whole := map[string]any{"type": "integer", "minimum": o.lowest()}
		if o.hasMax {
			whole["maximum"] = o.max
		}
		all = append(all, whole)
	}
	if o.Off != "" {
		pattern += "|[Oo]ff|OFF|-1"
		all = append(all, map[string]any{"const": -1})
	}
	return anyOf(append(all, texts("^("+pattern+")$"), filledIn)...)
}

// lowest is the least number that Set takes: 0 is the default, unless it could be
// taken for off.
func (o *Option) lowest() int64 {
	if o.Off == "" {
		return 0
	}
	return cmp.Or(o.min, 1)
}
