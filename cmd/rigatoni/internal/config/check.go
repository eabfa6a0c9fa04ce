package config

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

// check finds what is missing, and what doesn't fit together.
func (r *reader) check(file string) {
	to := r.s.Output.To.Ref.Kind
	ownStore := to != nil && to.Checkpoints
	for _, f := range Fields {
		name := f.Option.Name
		isStore := name == "store"
		switch {
		case isStore && ownStore && r.given(name):
			r.problem(r.s.origin[name], name, "is given, and the destination (%s) keeps the checkpoints itself; leave store out", to.Name())
		case isStore && ownStore, isStore && !r.given(name) && r.wrong("to"): // the destination may keep them
		case f.Option.Require != "" && r.needs(name) && !r.given(name) && !r.wrong(name):
			r.missing(file, name, f.Option.Require)
		case f.Kinds != nil && !r.wrong(name):
			if err := f.ref(&r.s).Check(); err != nil {
				r.problem(r.s.origin[name], name, "can't be used: %s", plainly(err, f.ref(&r.s).Options))
			}
		}
	}
	if ownStore && to.NeedsDocuments != nil && to.NeedsDocuments(r.s.Output.To.Ref) && !r.given("full-document") {
		r.s.Watch.FullDocument = "updateLookup"
	}
	r.s.Pipeline.Name = cmp.Or(r.s.Checkpoints.Name, r.s.Watch.Database)
	if r.need == nil && !r.given("name") && !r.given("database") && !r.wrong("name") && !r.wrong("database") {
		r.missing(file, "name", "a stream of the whole deployment has no database to be named after; the checkpoint is kept under the name, as --name all")
	}
	if !r.unknown { // what is missing may be there, by another name
		r.crossCheck()
	}
}

// needs reports whether the command needs an option that a pipeline requires.
func (r *reader) needs(name string) bool { return r.need == nil || slices.Contains(r.need, name) }

func (r *reader) missing(file, name, why string) {
	where := "--" + name
	switch {
	case file != "":
		where += ", or " + name + " in the file,"
	case r.inEnv:
		where += ", or " + EnvName(name) + " in the environment,"
	}
	r.problem(file, "", "%s is missing: %s", where, why)
}

// wrong reports whether there is a mistake in the option's value already.
func (r *reader) wrong(name string) bool {
	return slices.ContainsFunc(r.problems, func(p Problem) bool { return p.isAbout(name) })
}

// crossCheck asks the packages that take the settings what they refuse, without
// connecting. What they say of an option that is wrong already is left out: they
// saw its default.
func (r *reader) crossCheck() {
	var all []error
	if r.s.Server.Source != "" {
		all = parts(changestream.Check(r.s.Server.Source, &r.s.Watch))
	}
	if r.s.Pipeline.Name != "" {
		c := r.s.Pipeline
		c.Source, c.Destination, c.Store = unopened{r.s.streams(), &r.s.Watch}, rigatoni.Func(func(context.Context, rigatoni.Event) error { return nil }), memstore.New()
		_, err := rigatoni.New(c)
		all = append(all, parts(err)...)
	}
	for _, err := range all {
		text, where, about := r.s.explain(err)
		switch {
		case slices.ContainsFunc(about, r.wrong):
		case about != nil:
			r.problem(where, "", "%s", text)
		case strings.HasPrefix(text, "changestream: the connection string") || strings.HasPrefix(text, "changestream: timeoutMS"):
			if !r.wrong("source") {
				r.problem(r.s.origin["source"], "source", "can't be used: %s", strings.TrimPrefix(text, "changestream: "))
			}
		default:
			r.problem("", "", "%s", text)
		}
	}
}

// unopened is the source, which is never opened.
type unopened struct {
	streams []string
	watch   *changestream.Options
}

func (s unopened) Streams() []string { return s.streams }

// CanSnapshot implements rigatoni.Snapshotter.
func (s unopened) CanSnapshot() error { return changestream.CheckSnapshot(s.watch) }

func (s unopened) Open(context.Context, string, rigatoni.Start) (rigatoni.Stream, error) {
	return nil, errors.ErrUnsupported
}

// streams are the names of the pipeline's streams.
func (s *Settings) streams() []string {
	if s.Watch.OneEach && len(s.Watch.Collections) > 0 {
		return s.Watch.Collections
	}
	return []string{""}
}

// parts are the errors that errors.Join made one of.
func parts(err error) []error {
	if err == nil {
		return nil
	}
	if reflect.TypeOf(err) != reflect.TypeOf(errors.Join(errors.ErrUnsupported)) {
		return []error{err}
	}
	var all []error
	for _, part := range err.(interface{ Unwrap() []error }).Unwrap() {
		all = append(all, parts(part)...)
	}
	return all
}

// plainly is the text of a back end's error, with the names that users know.
func plainly(err error, options any) string {
	text := err.Error()
	for _, prefix := range []string{"ndjson: ", "postgres: ", "mongodb: ", "memstore: ", "redisstore: ", "pgstore: ", "filestore: ", "invalid argument: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return goNames.ReplaceAllStringFunc(text, func(found string) string {
		return cmp.Or(nameOf(options, goNames.FindStringSubmatch(found)[2]), found)
	})
}
