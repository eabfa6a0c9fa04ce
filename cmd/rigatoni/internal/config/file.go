package config

import (
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
)

// A value is what a field or a flag says.
type value struct {
	shown string   // as it stands in the file, variables not filled in: fit for messages
	items []string // what it means
}

// file takes the settings that the YAML document says. It returns false if it is
// no such document at all, and nothing else is worth a message.
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
	if root.Kind != yaml.MappingNode {
		r.problem(at(name, root), "", "this is %s; a pipeline file has one field a line, as store: file:./state", kind(root))
		return false
	}
	first := map[string]int{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, val := root.Content[i], root.Content[i+1]
		where := at(name, key)
		o := r.option(where, key)
		if o == nil {
			continue
		}
		if line, twice := first[o.Name]; twice {
			r.problem(where, o.Name, "stands here a second time (first in line %d)", line)
			continue
		}
		first[o.Name] = key.Line
		r.origin[o.Name] = where
		if v, ok := r.value(o, where, val); ok {
			r.apply(o, where, v)
		}
	}
	return true
}

func at(file string, n *yaml.Node) string { return fmt.Sprintf("%s:%d", file, max(1, n.Line)) }

// parse returns the document's root.
func parse(text []byte) (*yaml.Node, *Problem) {
	var doc yaml.Node
	err := yaml.Load(text, &doc, yaml.WithV4Defaults())
	if err == nil && len(doc.Content) == 1 {
		return doc.Content[0], nil
	}
	bad := &Problem{Text: "the file is empty; a pipeline file has one field a line, as store: file:./state"}
	var le *yaml.LoadError
	if errors.As(err, &le) && !strings.Contains(le.Message, "no documents") {
		bad.Text = "this is not YAML: " + strings.TrimPrefix(le.Message, "yaml: ")
		if le.ContextMsg != "" {
			bad.Text += " (" + le.ContextMsg + ")"
		}
		bad.line = le.Mark.Line
	} else if err != nil && le == nil {
		bad.Text = "this is not YAML: " + err.Error()
	}
	return nil, bad
}

// option finds the option that a key names, or reports that there is none.
func (r *reader) option(where string, key *yaml.Node) *Option {
	if key.Kind != yaml.ScalarNode {
		r.problem(where, "", "%s stands where a field's name should", kind(key))
		return nil
	}
	o := ByName(key.Value)
	switch {
	case o == nil:
		r.problem(where, clip(key.Value), "there is no such field%s", suggestion(key.Value))
	case o.Once:
		r.problem(where, o.Name, "this is for one start only and can't stand in a file, where it would hold for every start; give --%s", o.Name)
		return nil
	}
	return o
}

// value reads the value of an option.
func (r *reader) value(o *Option, where string, n *yaml.Node) (value, bool) {
	for n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	switch {
	case n.Kind == yaml.ScalarNode && n.ShortTag() != "!!null":
		text, ok := r.expand(o, where, n)
		return value{shown: n.Value, items: o.split(text)}, ok
	case n.Kind == yaml.SequenceNode && o.list && len(n.Content) > 0:
		return r.listValue(o, where, n)
	case n.Kind == yaml.SequenceNode && o.list:
		r.problem(where, o.Name, "the list is empty; leave the field out for the default")
	case n.Kind == yaml.ScalarNode:
		r.problem(where, o.Name, "has no value; leave the field out for the default")
	default:
		r.problem(where, o.Name, "this is %s; it must be %s", kind(n), o.wants())
	}
	return value{}, false
}

func (r *reader) listValue(o *Option, where string, n *yaml.Node) (value, bool) {
	v, good := value{}, true
	var shown []string
	for _, item := range n.Content {
		for item.Kind == yaml.AliasNode && item.Alias != nil {
			item = item.Alias
		}
		if item.Kind != yaml.ScalarNode || item.ShortTag() == "!!null" {
			r.problem(where, o.Name, "the list has %s in it; each of its items must be one value", kind(item))
			return value{}, false
		}
		text, ok := r.expand(o, where, item)
		good = good && ok
		shown, v.items = append(shown, item.Value), append(v.items, text)
	}
	v.shown = strings.Join(shown, ",")
	return v, good
}

func (r *reader) expand(o *Option, where string, n *yaml.Node) (string, bool) {
	text, err := expand(n.Value, r.env)
	if err != nil {
		r.problem(where, o.Name, "%s", err)
		return "", false
	}
	return text, true
}

// wants says what a value of the option looks like.
func (o *Option) wants() string {
	switch {
	case o.list:
		return "a list of " + o.Arg
	case o.Switch():
		return "true or false"
	}
	return "one value (a " + o.Arg + ")"
}

func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a group of fields"
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

// suggestion names the field that was probably meant.
func suggestion(name string) string {
	plain := strings.ToLower(strings.NewReplacer("_", "-", " ", "-").Replace(name))
	best, least := "", 1+len(name)/3
	var all []string
	for _, o := range Options {
		if o.Once {
			continue
		}
		all = append(all, o.Name)
		if d := distance(plain, o.Name); d <= least && (best == "" || d < least) {
			best, least = o.Name, d
		}
		if strings.ReplaceAll(plain, "-", "") == strings.ReplaceAll(o.Name, "-", "") { // maxBatchBytes
			return fmt.Sprintf("; did you mean %s?", o.Name)
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %s?", best)
	}
	return "; there are " + strings.Join(all, ", ")
}

// distance is Levenshtein's, of bytes, of names that are not absurdly long.
func distance(a, b string) int {
	if len(a) > 100 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
