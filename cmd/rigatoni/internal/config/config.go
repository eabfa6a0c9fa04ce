// Package config reads what a pipeline does, from a YAML file and from flags. A
// field of the file and its flag have the same name. They are declared where
// they are used, on the fields of the Options of each package; [Fields] lists
// them, and the help and the example file are made of it.
//
// A mistake is a sentence that says where it is (file and line, or flag), what
// is wrong, and what is allowed. All mistakes are found at once. No message
// quotes what may be a password.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/rigatoni-etl/rigatoni/internal/option"
)

// Input is what settings are made of.
type Input struct {
	// File is the path of the YAML file, "" for none.
	File string
	// Flags are the flags that were given, by name, as text. They override the file.
	Flags map[string]string
	// Env looks up a variable of the environment, for ${NAME} in the file.
	Env func(name string) (string, bool)
}

// Read makes settings of the input. The error is of type [Problems].
func Read(in Input) (Settings, error) {
	r := reader{env: in.Env, s: Settings{origin: map[string]string{}}}
	if in.File != "" {
		text, err := os.ReadFile(in.File)
		if err != nil {
			if pe := (*os.PathError)(nil); errors.As(err, &pe) {
				err = pe.Err // the path stands in front already
			}
			r.problem(Redact(in.File), "", "the file can't be read: %s", err)
			return Settings{}, r.problems
		}
		if !r.file(in.File, text) {
			return Settings{}, r.problems
		}
	}
	for _, f := range Fields {
		if text, given := in.Flags[f.Option.Name]; given {
			r.flag(f, text)
		}
	}
	r.check(in.File)
	if len(r.problems) > 0 {
		slices.SortStableFunc(r.problems, func(a, b Problem) int { return cmp.Compare(a.line, b.line) })
		return Settings{}, r.problems
	}
	return r.s, errors.Join(option.Complete("", &r.s.Messages), option.Complete("", &r.s.Monitoring)) // the others are completed where they are used
}

// reader collects settings and the mistakes in them.
type reader struct {
	s        Settings
	env      func(string) (string, bool)
	problems Problems
}

func (r *reader) problem(where, field, format string, args ...any) {
	if strings.HasPrefix(where, "--") {
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

func (r *reader) flag(f Field, text string) {
	where := "--" + f.Option.Name
	r.forget(f.Option.Name)
	r.s.origin[f.Option.Name] = where
	if err := f.set(&r.s, f.split(text), ""); err != nil {
		r.refused(where, f.Option.Name, err)
	}
}

// forget drops what the file says of an option, which no longer matters.
func (r *reader) forget(name string) {
	r.problems = slices.DeleteFunc(r.problems, func(p Problem) bool {
		return p.Field == name || strings.HasPrefix(p.Field, name+".")
	})
	delete(r.s.origin, name)
}

func (r *reader) given(name string) bool { return r.s.origin[name] != "" }

// check finds what is missing, and what doesn't fit together.
func (r *reader) check(file string) {
	for _, f := range Fields {
		switch {
		case f.Option.Require != "" && !r.given(f.Option.Name):
			r.missing(file, f.Option.Name, f.Option.Require)
		case f.Kinds != nil:
			if err := f.ref(&r.s).Check(); err != nil {
				r.problem(r.s.origin[f.Option.Name], f.Option.Name, "can't be used: %s", err)
			}
		}
	}
	r.s.Pipeline.Name = cmp.Or(r.s.Checkpoints.Name, r.s.Watch.Database)
	if !r.given("name") && !r.given("database") {
		r.missing(file, "name", "a stream of the whole deployment has no database to be named after; the checkpoint is kept under the name, as --name all")
	}
}

func (r *reader) missing(file, name, why string) {
	flag := "--" + name
	if file != "" {
		flag += ", or " + name + " in the file,"
	}
	r.problem(file, "", "%s is missing: %s", flag, why)
}
