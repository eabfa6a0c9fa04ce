package config

import (
	"cmp"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/rigatoni-etl/rigatoni/internal/option"
)

// A value is what a field says.
type value struct {
	shown string   // what messages show instead; "" for the value itself
	texts []string // what it means
}

// file reads the settings of the YAML document. It returns false if it is no
// such document at all, and nothing else is worth a message.
func (r *reader) file(name string, text []byte) bool {
	root, bad := parse(text)
	if bad != nil {
		where := name
		if bad.line > 0 {
			where = fmt.Sprintf("%s:%d", name, bad.line)
		}
		r.problem(where, "", "%s", bad.Text)
		return false
	}
	r.eachField(name, "", root, func(where string, key, val *yaml.Node) {
		if f, ok := r.field(where, key); ok {
			r.s.origin[f.Option.Name] = where
			r.read(f, where, val)
		}
	})
	return true
}

// eachField calls do for each field of a mapping, and reports those that stand
// there twice.
func (r *reader) eachField(file, prefix string, n *yaml.Node, do func(where string, key, val *yaml.Node)) {
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		where := at(file, key)
		if line, twice := first[key.Value]; twice && key.Kind == yaml.ScalarNode {
			r.problem(where, prefix+clip(key.Value), "stands here a second time (first in line %d)", line)
			continue
		}
		first[key.Value] = key.Line
		do(where, key, val)
	}
}

func at(file string, n *yaml.Node) string { return fmt.Sprintf("%s:%d", file, max(1, n.Line)) }

// field finds the option that a key names, or reports that there is none.
func (r *reader) field(where string, key *yaml.Node) (Field, bool) {
	if key.Kind != yaml.ScalarNode {
		r.problem(where, "", "%s stands where a field's name should", kind(key))
		return Field{}, false
	}
	f, ok := ByName(key.Value)
	switch {
	case !ok:
		r.unknown = true
		r.problem(where, cmp.Or(clip(key.Value), `""`), "is no field; %s", meant(key.Value))
	case f.Option.Once:
		r.problem(where, f.Option.Name, "applies to one start only and can't stand in a file, where it would apply to every start; give --%s", f.Option.Name)
		ok = false
	}
	return f, ok
}

func inFiles() []string {
	var names []string
	for _, f := range Fields {
		if !f.Option.Once {
			names = append(names, f.Option.Name)
		}
	}
	return names
}

// read reads the value of an option.
func (r *reader) read(f Field, where string, n *yaml.Node) {
	n = resolved(n)
	if f.Kinds != nil && n.Kind == yaml.MappingNode {
		r.backend(f, where, n)
		return
	}
	if v, ok := r.value(f.Option, f.Option.Name, where, n); ok {
		if err := f.set(&r.s, v.texts, v.shown); err != nil {
			r.refused(where, f.Option.Name, err)
		}
	}
}

// value reads the value of an option, which messages call by name.
func (r *reader) value(o option.Option, name, where string, n *yaml.Node) (value, bool) {
	n = resolved(n)
	switch {
	case foreignTag(n) != "":
		r.problem(where, name, "has the YAML tag %s, which is not known here%s", clip(foreignTag(n)), tagAdvice)
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
		r.problem(where, name, "has no value; leave it out for the default")
	case n.Kind == yaml.ScalarNode:
		text, ok := r.expand(o, name, where, n)
		texts := []string{text}
		if o.List {
			texts = option.SplitList(text)
		}
		return value{instead(n.Value, text), texts}, ok
	case n.Kind == yaml.SequenceNode && o.List:
		return r.list(o, name, where, n)
	case o.Arg == "JSON":
		return r.json(name, where, n)
	default:
		r.problem(where, name, "is %s; it must be %s", kind(n), wanted(o))
	}
	return value{}, false
}

func (r *reader) list(o option.Option, name, where string, n *yaml.Node) (value, bool) {
	v, good := value{}, true
	var shown []string
	for _, item := range n.Content {
		item = resolved(item)
		if tag := foreignTag(item); tag != "" {
			r.problem(where, name, "has the YAML tag %s, which is not known here%s", clip(tag), tagAdvice)
			return value{}, false
		}
		if item.Kind != yaml.ScalarNode || item.ShortTag() == "!!null" {
			r.problem(where, name, "is a list with %s in it; each of its items must be a single value", kind(item))
			return value{}, false
		}
		text, ok := r.expand(o, name, where, item)
		good = good && ok
		shown, v.texts = append(shown, item.Value), append(v.texts, text)
	}
	v.shown = instead(strings.Join(shown, ", "), strings.Join(v.texts, ", "))
	return v, good
}

// json reads a value of any form, for an option that takes it as JSON.
func (r *reader) json(name, where string, n *yaml.Node) (value, bool) {
	text, err := extJSON(n, r.expander(true).expand)
	if err != nil {
		r.problem(where, name, "is not complete: %s", err)
		return value{}, false
	}
	shown, _ := extJSON(n, func(s string) (string, error) { return s, nil })
	return value{instead(shown, text), []string{text}}, true
}

func (r *reader) expand(o option.Option, name, where string, n *yaml.Node) (string, bool) {
	text, err := r.expander(o.Arg == "JSON").expand(n.Value)
	if err != nil {
		r.problem(where, name, "is not complete: %s", err)
		return "", false
	}
	return text, true
}

// expander returns one that notes which variables it fills in.
func (r *reader) expander(json bool) expander {
	return expander{json: json, env: func(name string) (string, bool) {
		r.filledIn[name] = true
		if r.env == nil {
			return "", false
		}
		return r.env(name)
	}}
}

// instead is what messages show: the value as it stands in the file, if variables were
// filled in, which may be secret.
func instead(written, meant string) string {
	if written == meant {
		return ""
	}
	return written
}

// resolved is what an alias stands for.
func resolved(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	return n
}

// wanted says what a value of the option looks like.
func wanted(o option.Option) string {
	switch {
	case o.List:
		return "a list"
	case o.Switch:
		return "true or false"
	}
	return "a single value"
}

func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		if n.ShortTag() == "!!null" {
			return "nothing"
		}
		return "a single value"
	}
	return "something else"
}

func clip(text string) string {
	if len(text) > 60 {
		return strings.ToValidUTF8(text[:60], "") + "…"
	}
	return text
}
