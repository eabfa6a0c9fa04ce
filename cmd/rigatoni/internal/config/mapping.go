package config

import (
	"net/url"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/backend"
	"github.com/rigatoni-etl/rigatoni/internal/option"
)

// backend reads a back end that is written as a mapping: url, and the options of
// that back end.
//
//	to:
//	  url: ndjson:./out
//	  max-file-bytes: 64MiB
func (r *reader) backend(f Field, where string, n *yaml.Node) {
	file := where[:strings.LastIndexByte(where, ':')]
	prefix := f.Option.Name + "."
	if tag := foreignTag(n); tag != "" {
		r.problem(where, f.Option.Name, "has the YAML tag %s, which is not known here%s", clip(tag), tagAdvice)
		return
	}
	address := find(n, "url")
	if address == nil {
		r.problem(where, f.Option.Name, "has no url; %s", f.Option.Require)
		return
	}
	v, ok := r.value(f.Option, prefix+"url", at(file, address), address)
	if !ok {
		return
	}
	err := f.set(&r.s, v.texts, v.shown)
	ref := f.ref(&r.s)
	if err != nil {
		r.refused(at(file, address), prefix+"url", err)
		if ref = backend.Bare(f.Kinds, v.texts[0]); ref.Kind == nil {
			return
		}
	}
	r.eachField(file, prefix, n, func(where string, key, val *yaml.Node) {
		if key.Kind != yaml.ScalarNode {
			r.problem(where, f.Option.Name, "has %s where an option's name should stand", kind(key))
		} else if key.Value != "url" {
			r.backendOption(prefix, where, key.Value, val, ref.Kind.Name(), ref.Options, ref.URL)
		}
	})
}

func (r *reader) backendOption(prefix, where, name string, n *yaml.Node, kindName string, options any, u *url.URL) {
	o, ok := option.Find(options, name)
	switch {
	case !ok:
		r.problem(where, prefix+clip(name), "is no option of %s; %s", kindName, meantOption(name, options))
		return
	case u.Query().Has(name):
		r.problem(where, prefix+name, "is a parameter of the url as well; write it once")
		return
	}
	v, ok := r.value(o, prefix+name, where, n)
	if !ok {
		return
	}
	if err := o.SetAs(options, v.texts, v.shown); err != nil {
		r.refused(where, prefix+name, err)
	}
}

func find(n *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}
