package config

import (
	"cmp"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/backend"
	"github.com/rigatoni-etl/rigatoni/internal/option"
)

// Redact is the URL without what may be secret in it.
func Redact(text string) string { return option.RedactURL(text) }

// shortest is the length of the shortest secret that is looked for in messages:
// to replace every "a" would leave nothing readable, and hide as little.
const shortest = 3

var (
	// noSlashes finds a URL that lacks its "//" or its scheme, and has a password.
	noSlashes = regexp.MustCompile(`:.*@`)
	// directory finds the URL of a directory, also as a flag. It may have an @.
	directory = regexp.MustCompile(`^(--[\w-]+=)?(file|ndjson):`)
)

// secrets are the parts of a URL that no message may have.
func secrets(text string) []string {
	var found []string
	add := func(s string) {
		found = append(found, s)
		if plain, err := url.PathUnescape(s); err == nil && plain != s {
			found = append(found, plain)
		}
	}
	_, rest, ok := strings.Cut(text, "://")
	if !ok && noSlashes.MatchString(text) && !directory.MatchString(text) {
		rest = text
	}
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		add(rest[:i])
		if _, password, ok := strings.Cut(rest[:i], ":"); ok {
			add(password)
		}
		rest = rest[i+1:]
	}
	if _, query, ok := strings.Cut(rest, "?"); ok {
		for _, pair := range strings.Split(query, "&") {
			name, v, _ := strings.Cut(pair, "=")
			if l := strings.ToLower(name); strings.Contains(l, "password") || strings.Contains(l, "username") || strings.Contains(l, "authmechanismproperties") {
				add(v)
			}
		}
	}
	return found
}

// A Scrubber takes secrets out of text. Libraries are not supposed to put them
// into their errors; this is for the day that one does.
type Scrubber struct{ replacer *strings.Replacer }

// NewScrubber returns a scrubber for the secrets of these URLs.
func NewScrubber(urls ...string) Scrubber {
	var all []string
	for _, u := range urls {
		all = append(all, secrets(u)...)
	}
	return scrubberOf(all)
}

// Scrubber returns a scrubber for the secrets in the settings.
func (s *Settings) Scrubber() Scrubber {
	all := secrets(s.Server.Source)
	for _, ref := range []backend.Ref{s.Output.To.Ref, s.Checkpoints.Store.Ref} {
		all = append(all, secrets(ref.Text)...)
		if ref.Kind == nil {
			continue
		}
		for _, o := range option.Of(ref.Options) {
			if o.Secret {
				all = append(all, o.Text(ref.Options)...)
			}
		}
	}
	return scrubberOf(all)
}

func scrubberOf(all []string) Scrubber {
	all = slices.DeleteFunc(all, func(s string) bool { return len(s) < shortest })
	// The longest first, since the first that fits is the one replaced.
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	var pairs []string
	for _, s := range slices.Compact(all) {
		pairs = append(pairs, s, "***")
	}
	return Scrubber{strings.NewReplacer(pairs...)}
}

// Text is text without the secrets.
func (s Scrubber) Text(text string) string {
	if s.replacer == nil {
		return text
	}
	return s.replacer.Replace(text)
}

// Writer returns a writer that writes to w without the secrets. A secret must be
// within one write, as it is in a log record.
func (s Scrubber) Writer(w io.Writer) io.Writer { return scrubWriter{s, w} }

type scrubWriter struct {
	s Scrubber
	w io.Writer
}

func (w scrubWriter) Write(p []byte) (int, error) {
	if _, err := io.WriteString(w.w, w.s.Text(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}
