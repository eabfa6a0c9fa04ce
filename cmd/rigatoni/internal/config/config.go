// Package config reads what a pipeline is to do, from a YAML file and from
// flags. A field of the file and its flag have the same name, and there is one
// table of them: [Options].
//
// A mistake is a sentence that says where it is (file and line, or flag), what
// is wrong, and what is allowed. All mistakes are found in one go. None of them
// quotes what may be a password.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Settings is everything that can be set. What was not set is zero, which is
// the default of every field that has one.
type Settings struct {
	Source                   string
	Database                 string
	Collections              []string
	OneEach                  bool
	FullDocument             string
	FullDocumentBeforeChange string
	ExpandedEvents           bool

	Name                string
	Store               string
	Start               bson.Timestamp
	StartGiven          bool // Start is what somebody asked for, zero for "now"
	NewStream           bool
	AcceptChangedStream string

	To         string
	Canonical  bool
	RotateSize int64
	RotateAge  time.Duration

	MaxBatchEvents   int
	MaxBatchBytes    int
	MaxBatchAge      time.Duration
	MaxInFlightBytes int
	SaveInterval     time.Duration
	IdleInterval     time.Duration
	RetryMin         time.Duration
	RetryMax         time.Duration
	GraceTime        time.Duration

	Owner     string
	LeaseTTL  time.Duration
	LeaseWait time.Duration

	LogLevel         string
	LogFormat        string
	ProgressInterval time.Duration
}

// Input is what settings are made of.
type Input struct {
	// File is the path of the YAML file, "" for none.
	File string
	// Flags are the flags that were given, by name, as text. They go before the file.
	Flags map[string]string
	// Env looks up a variable of the environment, for ${NAME} in the file.
	Env func(name string) (string, bool)
}

// Read makes settings of the input. The error is of type [Problems].
func Read(in Input) (Settings, error) {
	r := reader{env: in.Env, origin: map[string]string{}}
	if in.File != "" {
		text, err := os.ReadFile(in.File)
		if err != nil {
			if pe := (*os.PathError)(nil); errors.As(err, &pe) {
				err = pe.Err // the path stands in front already
			}
			r.problem(in.File, "", "the file can't be read: %s", err)
			return Settings{}, r.problems
		}
		if !r.file(in.File, text) {
			return Settings{}, r.problems
		}
	}
	for _, o := range Options {
		text, given := in.Flags[o.Name]
		if !given {
			continue
		}
		where := "--" + o.Name
		r.forget(o.Name) // what the file said of it no longer matters
		r.origin[o.Name] = where
		r.apply(o, where, value{shown: text, items: o.split(text)})
	}
	r.check(in.File)
	if len(r.problems) > 0 {
		slices.SortStableFunc(r.problems, func(a, b Problem) int { return cmp.Compare(a.line, b.line) })
		return Settings{}, r.problems
	}
	return r.s, nil
}

// A Problem is one mistake.
type Problem struct {
	Where string // "pipeline.yaml:3", "--store", or "" for the whole
	Field string // the option's name; "" where there is none, or Where says it
	Text  string // what is wrong, and what is allowed
	line  int
}

func (p Problem) String() string {
	var parts []string
	for _, s := range []string{p.Where, p.Field, p.Text} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ": ")
}

// Problems is all mistakes of an input, in the order of the file's lines.
type Problems []Problem

func (p Problems) Error() string {
	if len(p) == 1 {
		return p[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d mistakes in what the pipeline is to do:", len(p))
	for _, one := range p {
		b.WriteString("\n  " + one.String())
	}
	return b.String()
}

// reader collects settings and the mistakes in them.
type reader struct {
	s        Settings
	env      func(string) (string, bool)
	origin   map[string]string // where each option was set: "pipeline.yaml:3", "--store"
	problems Problems
}

func (r *reader) problem(where, field, format string, args ...any) {
	if strings.HasPrefix(where, "--") {
		field = ""
	}
	p := Problem{Where: where, Field: field, Text: fmt.Sprintf(format, args...)}
	if i := strings.LastIndexByte(where, ':'); i >= 0 {
		fmt.Sscanf(where[i+1:], "%d", &p.line) // no line: 0, which is first
	}
	r.problems = append(r.problems, p)
}

// forget drops what the file said of an option.
func (r *reader) forget(name string) {
	r.problems = slices.DeleteFunc(r.problems, func(p Problem) bool { return p.Field == name })
	delete(r.origin, name)
}

// apply gives the option its value.
func (r *reader) apply(o *Option, where string, v value) {
	if err := o.set(&r.s, v.items); err != nil {
		r.problem(where, o.Name, "%s %s", o.quote(v.shown), err)
	}
}

// check finds what is wrong with the settings as a whole.
func (r *reader) check(file string) {
	given := func(name string) bool { return r.origin[name] != "" }
	for _, o := range Options {
		if o.Required == "" || given(o.Name) {
			continue
		}
		where, flag := "", "--"+o.Name
		if file != "" {
			where, flag = file, flag+", or "+o.Name+" in the file"
		}
		r.problem(where, "", "%s is missing: %s", flag, o.Required)
	}
	if given("collections") && !given("database") {
		r.problem(r.origin["collections"], "collections", "collections are of a database; name it with database")
	}
	if r.s.OneEach && !given("collections") {
		r.problem(r.origin["one-each"], "one-each", "needs the collections that are to have a stream each; name them with collections")
	}
	if r.s.RetryMin > 0 && r.s.RetryMax > 0 && r.s.RetryMax < r.s.RetryMin {
		r.problem(r.origin["retry-max"], "retry-max", "is less than retry-min (%v)", r.s.RetryMin)
	}
	for _, name := range []string{"rotate-size", "rotate-age"} {
		if given(name) && r.s.To == "ndjson:-" {
			r.problem(r.origin[name], name, "is for files, and standard output (ndjson:-) is none; leave it out")
		}
	}
	r.checkName(file)
}

// checkName makes the database's name the pipeline's where it has no other.
func (r *reader) checkName(file string) {
	if r.origin["name"] != "" || r.origin["database"] != "" {
		r.s.Name = cmp.Or(r.s.Name, r.s.Database)
		return
	}
	r.problem(file, "", "--name is missing: a stream of the whole deployment has no database to be named after; "+
		"the checkpoint is kept under the name, as --name all")
}

// Check tells what is wrong with a single option's value.
func Check(name, text string) error {
	o := ByName(name)
	if err := o.set(&Settings{}, o.split(text)); err != nil {
		return fmt.Errorf("%s %w", o.quote(text), err)
	}
	return nil
}
