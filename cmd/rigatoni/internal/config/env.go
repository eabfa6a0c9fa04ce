package config

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/rigatoni-etl/rigatoni/internal/option"
)

// expander fills variables into a value of the file.
type expander struct {
	env func(string) (string, bool)
	// json is for the strings of a JSON value, where $match and $$ROOT are MongoDB's:
	// only $${ is short for a dollar sign and a brace.
	json bool
}

// expand replaces ${NAME}, ${NAME:-default} and ${file:PATH}, also after urlencode:
// for a password in a URL; $$ is a dollar sign. It works on a value that has been parsed already, so the value of a variable is taken
// as it is and can't change the structure of the file.
func (e expander) expand(text string) (string, error) {
	var b strings.Builder
	for {
		i := strings.IndexByte(text, '$')
		if i < 0 || i == len(text)-1 {
			b.WriteString(text)
			return b.String(), nil
		}
		b.WriteString(text[:i])
		written, n, err := e.dollar(text[i:])
		if err != nil {
			return "", err
		}
		b.WriteString(written)
		text = text[i+n:]
	}
}

// dollar returns what the beginning of text, a dollar sign and at least one more
// byte, stands for, and its length.
func (e expander) dollar(text string) (written string, n int, err error) {
	switch {
	case text[1] == '$' && e.json && !strings.HasPrefix(text[2:], "{"):
		return "$$", 2, nil
	case text[1] == '$':
		return "$", 2, nil
	case text[1] != '{':
		return "$", 1, e.bare(text[1:])
	}
	end := strings.IndexByte(text, '}')
	if end < 0 {
		return "", 0, errors.New("${ without its }; a dollar sign itself is written $$")
	}
	written, err = e.variable(text[2:end])
	return written, end + 1, err
}

// bare refuses $NAME where the environment has that variable: either it was meant,
// or it is part of a password. In a path $HOME is the home directory.
func (e expander) bare(text string) error {
	n := 0
	for n < len(text) && isName(text[:n+1]) {
		n++
	}
	name := text[:n]
	if _, known := e.env(name); !known || e.json || name == "" || name == "HOME" {
		return nil
	}
	return fmt.Errorf("$%s would stay as it is; write ${%s} for the variable, or $$%s for a dollar sign", name, name, name)
}

func (e expander) variable(inner string) (string, error) {
	if rest, ok := strings.CutPrefix(inner, "urlencode:"); ok {
		text, err := e.variable(rest)
		return strings.ReplaceAll(url.QueryEscape(text), "+", "%20"), err
	}
	if path, ok := strings.CutPrefix(inner, "file:"); ok {
		text, err := secretFile(path)
		if err != nil {
			return "", fmt.Errorf("${file:…} names %w", err)
		}
		return text, nil
	}
	name, def, hasDefault := strings.Cut(inner, ":-")
	if !isName(name) {
		return "", fmt.Errorf("${%s} does not name a variable: write ${NAME}, ${NAME:-default} or ${file:PATH}, and $$ for a dollar sign", clip(inner))
	}
	switch v, ok := e.env(name); {
	case v != "":
		return v, nil
	case hasDefault: // for an empty variable, too, as in the shell
		return def, nil
	case ok:
		return "", fmt.Errorf("the variable %s of the environment is empty; set it, or write ${%s:-} where it may be empty", name, name)
	}
	return "", fmt.Errorf("the environment has no variable %s; set it, or write ${%s:-default}", name, name)
}

// maxSecret is the size of the largest file that a secret is read from.
const maxSecret = 64 << 10

// secretFile returns the contents of a file that holds one value, without the line
// break at its end. The error continues after "names" and begins with the path.
func secretFile(path string) (string, error) {
	path, err := option.Path(path)
	if err != nil {
		return "", fmt.Errorf("a path that %w", err)
	}
	if path == "" {
		return "", errors.New("no file; write its path")
	}
	b, err := readFile(path, maxSecret)
	if err != nil {
		return "", fmt.Errorf("%q: %w", clip(path), err)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if text == "" {
		return "", fmt.Errorf("%q, which is empty", clip(path))
	}
	return text, nil
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
