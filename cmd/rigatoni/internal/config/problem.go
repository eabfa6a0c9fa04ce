package config

import (
	"fmt"
	"strings"
)

// A Problem is one mistake.
type Problem struct {
	Where string // "pipeline.yaml:3", or "" for a flag, or the whole
	Field string // the option's name, flag or variable; "" where there is none
	Text  string // what is wrong, and what is allowed; it continues after the name
	line  int
}

// isAbout reports whether the problem is one of an option, in a file, a variable of
// the environment, or a flag.
func (p Problem) isAbout(option string) bool {
	return p.Field == option || strings.HasPrefix(p.Field, option+".") || p.Field == "--"+option || strings.TrimSuffix(p.Field, "_FILE") == EnvName(option)
}

func (p Problem) String() string {
	text := p.Text
	if p.Field != "" {
		text = p.Field + " " + text
	}
	if p.Where != "" {
		text = p.Where + ": " + text
	}
	return text
}

// Problems is all mistakes of an input, in the order of the file's lines.
type Problems []Problem

func (p Problems) Error() string {
	if len(p) == 1 {
		return p[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d mistakes in the configuration:", len(p))
	for _, one := range p {
		b.WriteString("\n  " + one.String())
	}
	return b.String()
}
