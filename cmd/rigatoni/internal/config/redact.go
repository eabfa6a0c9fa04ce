package config

import (
	"cmp"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/backend"
	"github.com/rigatoni-etl/rigatoni/internal/option"
)

// Redact is the URL without what may be secret in it.
func Redact(text string) string { return option.RedactURL(text) }

var (
	// noSlashes finds a URL that lacks its "//" or its scheme, and has a password.
	noSlashes = regexp.MustCompile(`:.*@`)
	// directory finds the URL of a directory, also as a flag. It may have an @.
	directory = regexp.MustCompile(`^(--[\w-]+=)?(file|ndjson):`)
)

// secrets are the parts of a URL that no message may have.
func secrets(text string) []string {
	var found []string
	add := func(s string) { found = append(found, s) }
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
//
// A secret that looks like nothing else is replaced wherever it stands. One that may be
// a word of the message, or a number in it (level, a, 27017), is replaced only where a
// secret would stand: in a URL, in quotes, after "password".
type Scrubber struct {
	anywhere *strings.Replacer
	asValues []*regexp.Regexp
}

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

// word matches a secret that may be part of a message by chance.
var word = regexp.MustCompile(`^(.{0,3}|[A-Za-z]?[a-z]*|[A-Z]*|[0-9.:]*)$`)

func scrubberOf(secrets []string) Scrubber {
	var all, words, pairs []string
	for _, s := range secrets {
		all = append(all, spellings(s)...)
	}
	// The longest first, since the first that fits is the one replaced.
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	for _, s := range slices.Compact(all) {
		switch {
		case s == "":
		case word.MatchString(s):
			words = append(words, regexp.QuoteMeta(s))
		default:
			pairs = append(pairs, s, "***")
		}
	}
	scrub := Scrubber{anywhere: strings.NewReplacer(pairs...)}
	if len(words) > 0 {
		any := `(?:` + strings.Join(words, "|") + `)`
		for _, around := range [][2]string{
			{`[:/]`, `@`},
			{"[\"'`]", "\\\\?[\"'`]"},
			{`(?i:pass|pwd|secret|user|auth)[\w-]*["']?\s*[:=]\s*["']?`, `[^\w]|$`},
		} {
			scrub.asValues = append(scrub.asValues, regexp.MustCompile(`(`+around[0]+`)`+any+`(`+around[1]+`)`))
		}
	}
	return scrub
}

// spellings are the forms that a secret has in URLs and in quoted text. It may be
// percent-encoded already.
func spellings(s string) []string {
	all := []string{s}
	plain := []string{s}
	if p, err := url.PathUnescape(s); err == nil && p != s {
		plain = append(plain, p)
	}
	for _, p := range plain {
		all = append(all, p)
		for _, form := range []string{url.QueryEscape(p), url.PathEscape(p), url.UserPassword("", p).String()[1:]} {
			all = append(all, form, lowerEscapes.ReplaceAllStringFunc(form, strings.ToLower))
		}
		for _, form := range []string{strconv.Quote(p), strconv.QuoteToASCII(p), jsonString(p)} {
			all = append(all, form[1:len(form)-1])
		}
	}
	return all
}

var lowerEscapes = regexp.MustCompile(`%[0-9A-F]{2}`)

func jsonString(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return strconv.Quote(s)
	}
	return string(b)
}

// Text is text without the secrets.
func (s Scrubber) Text(text string) string {
	if s.anywhere == nil {
		return text
	}
	text = s.anywhere.Replace(text)
	for _, re := range s.asValues {
		text = re.ReplaceAllString(text, "${1}***${2}")
	}
	return text
}
