package config

import (
	"errors"
	"fmt"
	"strings"
)

// expand replaces ${NAME} and ${NAME:-default}; $$ is a dollar sign. It works on a
// value that has been parsed already, so the value of a variable is taken as it is
// and can't change the structure of the file.
func expand(text string, env func(string) (string, bool)) (string, error) {
	var b strings.Builder
	for {
		i := strings.IndexByte(text, '$')
		if i < 0 || i == len(text)-1 {
			b.WriteString(text)
			return b.String(), nil
		}
		b.WriteString(text[:i])
		switch text[i+1] {
		case '$':
			b.WriteByte('$')
			text = text[i+2:]
		case '{':
			end := strings.IndexByte(text[i:], '}')
			if end < 0 {
				return "", errors.New("${ without its }; a dollar sign itself is written $$")
			}
			v, err := variable(text[i+2:i+end], env)
			if err != nil {
				return "", err
			}
			b.WriteString(v)
			text = text[i+end+1:]
		default:
			b.WriteByte('$')
			text = text[i+1:]
		}
	}
}

// expandJSON is expand for the strings of a JSON value, where $$ROOT is a variable
// of MongoDB: only $${ is short for a dollar sign and a brace.
func expandJSON(text string, env func(string) (string, bool)) (string, error) {
	parts := strings.Split(text, "$$")
	for i := range parts[1:] {
		if !strings.HasPrefix(parts[i+1], "{") {
			parts[i] += "$$"
		}
	}
	return expand(strings.Join(parts, "$$"), env)
}

func variable(inner string, env func(string) (string, bool)) (string, error) {
	name, def, hasDefault := strings.Cut(inner, ":-")
	if !isName(name) {
		return "", fmt.Errorf("${%s} does not name a variable: write ${NAME} or ${NAME:-default}, and $$ for a dollar sign", clip(inner))
	}
	v, ok := env(name)
	switch {
	case hasDefault && v == "": // as the shell does
		return def, nil
	case !ok:
		return "", fmt.Errorf("the environment has no variable %s; set it, or write ${%s:-default}", name, name)
	}
	return v, nil
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
