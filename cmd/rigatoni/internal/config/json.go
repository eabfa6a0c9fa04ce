package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// maxDepth is how deeply a value may be nested; an alias may name what it is in.
const maxDepth = 100

// maxJSON is how much JSON a value may make: aliases of aliases grow without end.
const maxJSON = 1 << 20

// extJSON writes a YAML value as Extended JSON, with its fields in their order.
// text replaces the value of each string.
func extJSON(n *yaml.Node, text func(string) (string, error)) (string, error) {
	var b strings.Builder
	err := writeJSON(&b, n, text, maxDepth)
	return b.String(), err
}

func writeJSON(b *strings.Builder, n *yaml.Node, text func(string) (string, error), depth int) error {
	n = resolved(n)
	switch {
	case depth == 0:
		return errors.New("it is nested too deeply")
	case b.Len() > maxJSON:
		return fmt.Errorf("it is longer than %d KiB", maxJSON>>10)
	case foreignTag(n) != "":
		return fmt.Errorf("line %d has the YAML tag %s, which is not known here%s", n.Line, clip(foreignTag(n)), tagAdvice)
	}
	switch n.Kind {
	case yaml.SequenceNode:
		return writeItems(b, '[', ']', n.Content, func(item *yaml.Node) error {
			return writeJSON(b, item, text, depth-1)
		})
	case yaml.MappingNode:
		var keys, values []*yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			keys, values = append(keys, n.Content[i]), append(values, n.Content[i+1])
		}
		i := 0
		return writeItems(b, '{', '}', keys, func(key *yaml.Node) error {
			if key.Kind != yaml.ScalarNode {
				return fmt.Errorf("line %d has %s where a field's name should stand", key.Line, kind(key))
			}
			quoted, _ := json.Marshal(key.Value) // a string never fails
			b.WriteString(string(quoted) + ":")
			v := resolved(values[i])
			i++
			if key.Value == "$date" && v.ShortTag() == "!!timestamp" {
				v = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: v.Value}
			}
			return writeJSON(b, v, text, depth-1)
		})
	}
	scalar, err := jsonScalar(n, text)
	b.WriteString(scalar)
	return err
}

func writeItems(b *strings.Builder, open, end byte, items []*yaml.Node, write func(*yaml.Node) error) error {
	b.WriteByte(open)
	for i, item := range items {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := write(item); err != nil {
			return err
		}
	}
	b.WriteByte(end)
	return nil
}

func jsonScalar(n *yaml.Node, text func(string) (string, error)) (string, error) {
	if n.ShortTag() == "!!str" {
		s, err := text(n.Value)
		quoted, _ := json.Marshal(s)
		return string(quoted), err
	}
	var v any
	if err := n.Decode(&v); err != nil {
		return "", fmt.Errorf("line %d: %w", n.Line, err)
	}
	switch t := v.(type) {
	case float64:
		switch {
		case math.IsNaN(t):
			return `{"$numberDouble":"NaN"}`, nil
		case math.IsInf(t, 1):
			return `{"$numberDouble":"Infinity"}`, nil
		case math.IsInf(t, -1):
			return `{"$numberDouble":"-Infinity"}`, nil
		case t == math.Trunc(t) && math.Abs(t) < 1e15:
			return fmt.Sprintf("%.1f", t), nil // 1.0 stays a double
		}
	case time.Time:
		return fmt.Sprintf(`{"$date":%q}`, t.UTC().Format(time.RFC3339Nano)), nil
	}
	out, err := json.Marshal(v)
	return string(out), err
}
