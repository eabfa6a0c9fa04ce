package config

import (
	"io"
	"net/url"
	"slices"
	"strings"
)

// Redact is the URL without what may be secret in it: user, password and
// query. It works on what is no valid URL, too.
func Redact(text string) string {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return text
	}
	// A password that should have been escaped may hold any of /?#@, so all up to
	// the last @ is taken for it.
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		rest = "***@" + rest[i+1:]
	}
	if i := strings.IndexByte(rest, '?'); i >= 0 {
		rest = rest[:i]
	}
	return scheme + "://" + rest
}

// shortest is the length from which on a secret is looked for in messages: to
// replace every "a" would leave nothing readable, and hide as little.
const shortest = 3

// secrets are the parts of a URL that no message may have.
func secrets(text string) []string {
	var found []string
	add := func(s string) {
		if len(s) < shortest {
			return
		}
		found = append(found, s)
		if plain, err := url.PathUnescape(s); err == nil && plain != s {
			found = append(found, plain)
		}
	}
	_, rest, _ := strings.Cut(text, "://")
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

// A Scrubber takes the secrets of URLs out of text. Libraries are not supposed to
// put them into their errors; this is for the day that one does.
type Scrubber struct{ replacer *strings.Replacer }

// NewScrubber makes a scrubber for the secrets of these URLs.
func NewScrubber(urls ...string) Scrubber {
	var all []string
	for _, u := range urls {
		all = append(all, secrets(u)...)
	}
	// The longest first, since the first that fits is the one replaced.
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
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

// Writer writes to w without the secrets. A secret must come in one write, as
// it does in a log record.
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
