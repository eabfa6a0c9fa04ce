package option

import "strings"

// RedactURL returns the URL without what may be secret in it: user, password and
// query. It works on text that is no valid URL, too.
func RedactURL(given string) string {
	scheme, rest, ok := strings.Cut(given, "://")
	switch {
	case ok:
		scheme += "://"
	case strings.Contains(given, "@"): // a URL without its "//", or without its scheme
		scheme, rest = "", given
	default:
		return given
	}
	// A password that should have been escaped may contain any of /?#@, so all up
	// to the last @ is taken for it.
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		rest = "***@" + rest[i+1:]
	}
	rest, _, _ = strings.Cut(rest, "?")
	return scheme + rest
}
