// Package backend is the table of the destinations and stores that the command
// knows: the schemes of their URLs, their options, and how each is opened.
package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"strings"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/option"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A Kind is one kind of destination or store.
type Kind struct {
	Schemes []string    // of its URLs
	Forms   [][2]string // how its URLs are written, and what each is
	Options func() any  // new options, a pointer to a struct of package option

	path    bool // a URL without a path is refused
	check   func(Ref) error
	store   func(context.Context, Ref, *slog.Logger) (state.Store, error)
	deliver func(context.Context, Ref, io.Writer, *slog.Logger) (rigatoni.Destination, error)
}

// Name is the kind's scheme, the first of several.
func (k *Kind) Name() string { return k.Schemes[0] }

// A Ref names a back end and has its options.
type Ref struct {
	Kind    *Kind
	URL     *url.URL
	Options any    // of Kind.Options, those of the URL included
	Text    string // the URL as it was given
}

// parse reads a URL. Its error shows no part of the URL.
func parse(kinds []*Kind, what, text string) (Ref, error) {
	u, err := parseURL(text)
	if err != nil {
		return Ref{}, err
	}
	i := slices.IndexFunc(kinds, func(k *Kind) bool { return slices.Contains(k.Schemes, u.Scheme) })
	if i < 0 {
		return Ref{}, fmt.Errorf("there is no %s with this scheme; there are %s", what, strings.Join(forms(kinds), ", "))
	}
	r := Ref{Kind: kinds[i], URL: u, Options: kinds[i].Options(), Text: text}
	if r.Kind.path && u.Opaque == "" && u.Path == "" {
		return Ref{}, fmt.Errorf("the URL names no directory; write %s", r.Kind.Forms[0][0])
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil || strings.Contains(u.RawQuery, "@") { // a password with a ? continues here
		return Ref{}, errors.New("the URL's parameters can't be read; write @ as %40, and ? in a password as %3F")
	}
	return r, option.FromQuery(r.Options, query)
}

func forms(kinds []*Kind) []string {
	var all []string
	for _, k := range kinds {
		for _, f := range k.Forms {
			all = append(all, f[0])
		}
	}
	return all
}

// Check reports what is wrong with the options together, where the back end can
// say that without being opened.
func (r Ref) Check() error {
	if r.Kind == nil || r.Kind.check == nil {
		return nil
	}
	return r.Kind.check(r)
}

// String is the URL without its secrets.
func (r Ref) String() string {
	if r.Kind != nil && r.Kind.path && r.URL.Opaque != "" {
		return r.Text // a directory, whose name may have an @
	}
	return option.RedactURL(r.Text)
}

// A Store is a store that has been configured.
type Store struct{ Ref Ref }

// String is the URL without its secrets.
func (s Store) String() string { return s.Ref.String() }

// UnmarshalText reads the store's URL.
func (s *Store) UnmarshalText(text []byte) (err error) {
	s.Ref, err = parse(Stores, "store", string(text))
	return err
}

// Open opens the store. The caller closes it with state.Close.
func (s Store) Open(ctx context.Context, log *slog.Logger) (state.Store, error) {
	return s.Ref.Kind.store(ctx, s.Ref, log)
}

// OpenStore opens the store of a URL.
func OpenStore(ctx context.Context, text string, log *slog.Logger) (state.Store, error) {
	var s Store
	if err := s.UnmarshalText([]byte(text)); err != nil {
		return nil, fmt.Errorf("the store's URL: %w", err)
	}
	return s.Open(ctx, log)
}

// A Destination is a destination that has been configured.
type Destination struct{ Ref Ref }

// String is the URL without its secrets.
func (d Destination) String() string { return d.Ref.String() }

// UnmarshalText reads the destination's URL.
func (d *Destination) UnmarshalText(text []byte) (err error) {
	d.Ref, err = parse(Destinations, "destination", string(text))
	return err
}

// Open opens the destination. Some write to stdout.
func (d Destination) Open(ctx context.Context, stdout io.Writer, log *slog.Logger) (rigatoni.Destination, error) {
	return d.Ref.Kind.deliver(ctx, d.Ref, stdout, log)
}

var errNoURL = errors.New("this is no URL; if it has a password, its special characters must be written as %40 for @, %3A for :, %2F for / and so on")

// parseURL is url.Parse for URLs with several hosts, too, some of which that
// refuses; they stand in URL.Host, with commas between them. Its error shows no
// part of the URL.
func parseURL(text string) (*url.URL, error) {
	single, hosts := cutHosts(text)
	u, err := url.Parse(single)
	if err != nil {
		return nil, errNoURL
	}
	if hosts != "" {
		u.Host = hosts
	}
	return u, nil
}

// cutHosts replaces a URL's hosts by one name, if there are several.
func cutHosts(text string) (single, hosts string) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return text, ""
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	begin := strings.LastIndexByte(rest[:end], '@') + 1
	if hosts = rest[begin:end]; !strings.Contains(hosts, ",") {
		return text, ""
	}
	return scheme + "://" + rest[:begin] + "hosts" + rest[end:], hosts
}
