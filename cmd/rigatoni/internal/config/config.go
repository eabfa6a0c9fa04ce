// Package config reads what a pipeline does, from a YAML file, the environment and
// flags. A field of the file and its flag have the same name. They are declared
// where they are used, on the fields of the Options of each package; [Fields] lists
// them, and the help and the example file are made of it.
//
// A mistake is a sentence that says where it is (file and line, variable, or flag),
// what is wrong, and what is allowed. All mistakes are found at once. No message
// quotes what may be a password.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/rigatoni-etl/rigatoni/internal/option"
)

// Input is what settings are made of.
type Input struct {
	// File is the path of the YAML file, "-" for standard input, "" for none.
	File  string
	Stdin io.Reader
	// Flags are the flags that were given, by name, as text: what was written with
	// each. They override the file and the environment.
	Flags map[string][]string
	// Need are the options that must be there, for commands that run no pipeline;
	// nil: those that a pipeline needs.
	Need []string
	// Env looks up a variable of the environment, for ${NAME} in the file, and for
	// the settings that are variables (see [EnvName]), which override the file.
	Env func(name string) (string, bool)
	// Environ is all variables, as of os.Environ, to find names that are no setting.
	Environ []string
}

// Read makes settings of the input. The error is of type [Problems]; the settings then
// are what could be read, for messages about it.
func Read(in Input) (Settings, error) {
	r := reader{env: in.Env, need: in.Need, s: Settings{origin: map[string]string{}}, filledIn: map[string]bool{}}
	name := in.File
	if in.File != "" {
		text, shown, err := open(in.File, in.Stdin)
		if line := lineOf(err); line > 0 {
			shown += ":" + strconv.Itoa(line)
		}
		if name = shown; err != nil {
			r.problem(shown, "", "%s", err)
		}
		if err != nil || !r.file(shown, text) {
			r.logFormat(in.Flags)
			return r.s, r.problems
		}
	}
	r.environment(in.Environ)
	for _, f := range Fields {
		if texts, given := in.Flags[f.Option.Name]; given {
			r.flag(f, texts)
		}
	}
	r.check(name)
	if len(r.problems) > 0 {
		slices.SortStableFunc(r.problems, func(a, b Problem) int { return cmp.Compare(a.line, b.line) })
		return r.s, r.problems
	}
	return r.s, errors.Join(option.Complete("", &r.s.Messages), option.Complete("", &r.s.Monitoring)) // the others are completed where they are used
}

// logFormat reads how messages are to be written, where nothing else is read. A
// mistake in it doesn't matter any more.
func (r *reader) logFormat(flags map[string][]string) {
	f, _ := ByName("log-format")
	texts := flags[f.Option.Name]
	if r.env != nil && texts == nil {
		if text, ok := r.env(EnvName(f.Option.Name)); ok {
			texts = []string{text}
		}
	}
	if texts != nil {
		_ = f.set(&r.s, texts[len(texts)-1:], "")
	}
}

// reader collects settings and the mistakes in them.
type reader struct {
	s        Settings
	env      func(string) (string, bool)
	need     []string
	problems Problems
	inEnv    bool            // the environment has settings
	unknown  bool            // the file has a field that there isn't
	filledIn map[string]bool // the variables that the file names
}

func (r *reader) problem(where, field, format string, args ...any) {
	if strings.HasPrefix(where, envPrefix) || strings.HasPrefix(where, "--") { // not a file
		where, field = "", where
	}
	p := Problem{Where: where, Field: field, Text: fmt.Sprintf(format, args...)}
	if i := strings.LastIndexByte(where, ':'); i >= 0 {
		_, _ = fmt.Sscanf(where[i+1:], "%d", &p.line) // no line: 0, which is first
	}
	r.problems = append(r.problems, p)
}

// refused adds what a value was refused for.
func (r *reader) refused(where, field string, err error) {
	text := err.Error()
	if e := (*option.Error)(nil); errors.As(err, &e) {
		text = e.Problem
	}
	r.problem(where, field, "%s", text)
}

func (r *reader) flag(f Field, texts []string) {
	where := "--" + f.Option.Name
	if !f.Option.List {
		texts = texts[len(texts)-1:] // the last one counts, as a script that adds flags expects
	}
	var all []string
	for _, text := range texts {
		all = append(all, f.split(text)...)
	}
	r.override(f, where, all, "only a file has such variables; let the shell fill it in, in double quotes")
}

// override gives an option a value that replaces that of the file.
func (r *reader) override(f Field, where string, texts []string, instead string) {
	r.forget(f.Option.Name)
	r.s.origin[f.Option.Name] = where
	for _, text := range texts {
		if strings.Contains(strings.ReplaceAll(text, "${HOME}", ""), "${") && f.Option.Arg != "JSON" {
			r.problem(where, f.Option.Name, "has ${…} in it; %s", instead)
			return
		}
	}
	if err := f.set(&r.s, texts, ""); err != nil {
		r.refused(where, f.Option.Name, err)
	}
}

// forget drops what is overridden, which no longer matters.
func (r *reader) forget(name string) {
	r.problems = slices.DeleteFunc(r.problems, func(p Problem) bool { return p.isAbout(name) })
	delete(r.s.origin, name)
}

func (r *reader) given(name string) bool { return r.s.origin[name] != "" }
