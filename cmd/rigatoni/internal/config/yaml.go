package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

const noFields = "a pipeline file has one field per line, as store: file:./state"

// parse returns the root of the only document of a YAML file.
func parse(text []byte) (*yaml.Node, *Problem) {
	loader, err := yaml.NewLoader(bytes.NewReader(text), yaml.WithV4Defaults())
	if err != nil {
		return nil, &Problem{Text: "this is not YAML: " + err.Error()}
	}
	var doc, second yaml.Node
	switch err := loader.Load(&doc); {
	case errors.Is(err, io.EOF), err == nil && len(doc.Content) != 1:
		return nil, &Problem{Text: "the file is empty; " + noFields}
	case err != nil:
		return nil, syntaxError(text, err)
	}
	switch err := loader.Load(&second); {
	case err == nil:
		return nil, &Problem{line: second.Line, Text: "a second document begins here, after ---; a pipeline file has one, for one pipeline"}
	case !errors.Is(err, io.EOF):
		return nil, syntaxError(text, err)
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, &Problem{line: max(1, root.Line), Text: fmt.Sprintf("this is %s; %s", kind(root), noFields)}
	}
	return root, nil
}

func syntaxError(text []byte, err error) *Problem {
	var le *yaml.LoadError
	if !errors.As(err, &le) {
		return &Problem{Text: "this is not YAML: " + err.Error()}
	}
	bad := &Problem{line: le.Mark.Line, Text: "this is not YAML: " + strings.TrimPrefix(le.Message, "yaml: ")}
	if le.ContextMsg != "" {
		bad.Text += " (" + le.ContextMsg + ")"
	}
	bad.Text += syntaxAdvice(text, bad)
	return bad
}

// syntaxAdvice says what is usually wrong where YAML has such an error.
func syntaxAdvice(text []byte, bad *Problem) string {
	line := ""
	if lines := bytes.Split(text, []byte("\n")); 0 < bad.line && bad.line <= len(lines) {
		line = string(lines[bad.line-1])
	}
	indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	switch {
	case strings.Contains(indent, "\t"):
		return "; the line begins with a tab, and YAML has blanks there"
	case strings.HasSuffix(strings.TrimRight(line, " \r"), ": memory:"):
		return "; write memory without the colon at its end"
	case strings.Contains(bad.Text, "mapping values are not allowed"):
		return "; a value with a colon at its end or before a blank needs quotes, and fields begin in the same column"
	case strings.Contains(bad.Text, "cannot start any token"):
		return "; a value that begins with @, ` or % needs quotes"
	}
	return ""
}

const tagAdvice = "; write a variable of the environment as ${NAME}, and the contents of a file as ${file:PATH}"

// coreTags are the tags that say what a value is anyway.
var coreTags = []string{"!!str", "!!int", "!!float", "!!bool", "!!null", "!!timestamp", "!!seq", "!!map", "!"}

// foreignTag is the tag that is written before a value, and that nothing here
// understands: !env, !vault, !!binary.
func foreignTag(n *yaml.Node) string {
	if n.Style&yaml.TaggedStyle == 0 || slices.Contains(coreTags, n.ShortTag()) {
		return ""
	}
	return n.ShortTag()
}
