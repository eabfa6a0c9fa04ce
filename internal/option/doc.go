// Package option declares the options of a package once, on the fields of its
// Options struct. The defaults and checks in Go, the parameters of a URL, and
// the command's YAML fields, flags, help and example file all come from there.
//
//	type Options struct {
//		// MaxFileBytes is the size at which a file is finished.
//		MaxFileBytes int64 `help:"finish a file at this size" kind:"size" default:"128MiB" off:"no limit" min:"1"`
//	}
//
// An option's name is the field's in kebab case: max-file-bytes. A field without
// a help tag is no option. The tags are:
//
//	help     a short sentence, for people
//	default  what the zero value means, as text
//	off      what -1 means, or "off" in text; without it there is no such value
//	min, max the range, as text; negative numbers are refused in any case
//	kind     "size": a number of bytes, written 4MiB; "url": messages show no user, password or query;
//	         "path": ~/ and $HOME/ at its beginning are replaced by the home directory
//	oneof    the allowed texts, separated by |
//	pattern  a regular expression that a whole text matches
//	want     what the value must be, for messages: with pattern, and for types that parse themselves
//	arg      the placeholder in help
//	require  why there must be a value, and an example, for the command
//	name     the name, where kebab case doesn't give it
//	group    begins a group of options in help
//	once     "true": applies to one start, and is a flag only
//	secret   "true": no message shows the value
//
// A field has the type bool, string, []string, int, int64 or time.Duration, or
// one that is an [encoding.TextUnmarshaler].
//
// A mistake in a declaration panics, in the first call that sees it.
//
// The other modules of this repository use the package although it is internal:
// what is exported here stays compatible, as if it were public.
package option
