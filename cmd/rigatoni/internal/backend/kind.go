// Package backend is the table of the destinations and stores that the command
// knows: the schemes of their URLs, their options, and how each is opened.
package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"path/filepath"
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

	// Checkpoints says that a destination keeps the checkpoints itself, so that there
	// is no store.
	Checkpoints bool
	// NeedsDocuments reports whether a destination needs the whole document with each
	// update, which the server sends only where it is asked to; nil: never.
	NeedsDocuments func(Ref) bool

	path    bool // its URLs name a directory
	client  bool // parameters of its URLs that are no options are for its client
	bare    bool // its URLs are a scheme and nothing else
	check   func(Ref) error
	store   func(context.Context, Ref, *slog.Logger) (state.Store, error)
	read    func(context.Context, Ref, *slog.Logger) (_ state.Store, note string, _ error) // nil: store writes nothing
	deliver func(context.Context, Ref, io.Writer, *slog.Logger) (rigatoni.Destination, error)
	inspect func(context.Context, rigatoni.Destination, []rigatoni.Scope) (Inspection, error)
	look    func(context.Context, Ref, *slog.Logger) (_ rigatoni.Destination, note string, _ error) // nil: deliver writes nothing
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
	if isBare(kinds, text) {
		text += ":"
	}
	u, err := parseURL(text)
	if err != nil {
		return Ref{}, hinted(kinds, what, text, err)
	}
	i := slices.IndexFunc(kinds, func(k *Kind) bool { return slices.Contains(k.Schemes, u.Scheme) })
	if i < 0 {
		return Ref{}, hinted(kinds, what, text, fmt.Errorf("there is no %s with this scheme", what))
	}
	r := Ref{Kind: kinds[i], URL: u, Options: kinds[i].Options(), Text: text}
	if err := r.checkForm(); err != nil {
		return Ref{}, err
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil || strings.Contains(u.RawQuery, "@") { // a password with a ? continues here
		return Ref{}, errors.New("the URL's parameters can't be read; write @ as %40, and ? in a password as %3F")
	}
	if r.Kind.client {
		maps.DeleteFunc(query, func(name string, _ []string) bool { _, own := option.Find(r.Options, name); return !own })
	}
	return r, option.FromQuery(r.Options, query)
}

// Bare is the back end that the beginning of a URL names, without its options, where
// the rest of the URL is wrong; its Kind is nil if there is none.
func Bare(kinds []*Kind, text string) Ref {
	scheme, _, _ := strings.Cut(text, ":")
	for _, k := range kinds {
		if slices.Contains(k.Schemes, scheme) {
			return Ref{Kind: k, URL: &url.URL{Scheme: scheme}, Options: k.Options()}
		}
	}
	return Ref{}
}

// checkForm checks what stands between the scheme and the parameters of a URL, and
// fills in the home directory.
func (r *Ref) checkForm() error {
	switch u := r.URL; {
	case r.Kind.path && u.User == nil && u.Host != "" && u.Host != "localhost":
		return fmt.Errorf("what follows the // would be a host; for a directory write %s:./DIR, or %s:/DIR for an absolute one", u.Scheme, u.Scheme)
	case r.Kind.path && u.Opaque == "" && u.Path == "":
		return fmt.Errorf("the URL names no directory; write %s", r.Kind.Forms[0][0])
	case r.Kind.path && u.Fragment != "":
		return errors.New("the URL has a #; in the name of a directory write it as %23")
	case r.Kind.path:
		return r.fillInHome()
	case !r.Kind.bare && u.Opaque != "" && !strings.Contains(r.Text, "@"):
		return fmt.Errorf("the URL lacks the // before its host; write %s://%s", u.Scheme, u.Opaque)
	case !r.Kind.bare && u.Opaque != "":
		return fmt.Errorf("the URL lacks the // before its host; write %s", r.Kind.Forms[0][0])
	}
	return nil
}

func (r *Ref) fillInHome() error {
	path := r.URL.Path
	if r.URL.Opaque != "" {
		var err error
		if path, err = url.PathUnescape(r.URL.Opaque); err != nil {
			return errors.New("the path has a % that begins no escape; write it as %25")
		}
	}
	full, err := option.Path(path)
	if err != nil {
		return fmt.Errorf("the path %w", err)
	}
	if full != path {
		u := *r.URL
		u.Opaque, u.Path, u.RawPath, u.OmitHost = "", filepath.ToSlash(full), "", true
		r.URL, r.Text = &u, u.String()
	}
	return nil
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

// Check reports what is wrong with the URL and the options together, where the back
// end can say that without being opened.
func (r Ref) Check() error {
	if r.Kind == nil || r.Kind.check == nil {
		return nil
	}
	err := r.Kind.check(r)
	if se := (*state.Error)(nil); errors.As(err, &se) {
		err = se.Err
	}
	return err
}

// String is the URL without its secrets.
func (r Ref) String() string {
	if r.Kind != nil && r.Kind.path && r.URL.User == nil {
		return r.Text // a directory, whose name may have an @
	}
	return option.RedactURL(r.Text)
}

// A Store is a store that has been configured.
type Store struct{ Ref Ref }

// String is the URL without its secrets.
func (s Store) String() string {
	if s.Ref.Kind == nil {
		return "kept by the destination"
	}
	return s.Ref.String()
}

// UnmarshalText reads the store's URL.
func (s *Store) UnmarshalText(text []byte) (err error) {
	s.Ref, err = parse(Stores, "store", string(text))
	return err
}

// Open opens the store. The caller closes it with state.Close. It returns nil where
// the destination keeps the checkpoints, and no store is configured.
func (s Store) Open(ctx context.Context, log *slog.Logger) (state.Store, error) {
	if s.Ref.Kind == nil {
		return nil, nil
	}
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

// Open opens the destination. Some write to stdout. The caller closes it with Close.
func (d Destination) Open(ctx context.Context, stdout io.Writer, log *slog.Logger) (rigatoni.Destination, error) {
	return d.Ref.Kind.deliver(ctx, d.Ref, stdout, log)
}

// An Inspection is what a destination says of itself to those who look at it.
type Inspection struct {
	User    string // "" where nobody has logged in
	Rights  []Right
	Missing []string // what a start makes
	Grant   string   // statements that grant what is missing, for those destinations that give them
}

// A Right is one that the destination's user has or lacks.
type Right struct {
	Name, For string
	Required  bool
	Granted   bool
}

// Inspect asks the destination about rights, and what there is for streams of these
// scopes. ok is false for one that can't say.
func (d Destination) Inspect(ctx context.Context, opened rigatoni.Destination, scopes []rigatoni.Scope) (_ Inspection, ok bool, _ error) {
	if d.Ref.Kind.inspect == nil {
		return Inspection{}, false, nil
	}
	i, err := d.Ref.Kind.inspect(ctx, opened, scopes)
	return i, true, err
}

// Close closes a destination that has connections of its own.
func Close(d rigatoni.Destination) error {
	if c, ok := rigatoni.As[io.Closer](d); ok {
		return c.Close()
	}
	return nil
}
