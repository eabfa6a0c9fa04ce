package backend

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/suggest"
)

// instead has what people write in place of a URL, and what to write.
var instead = map[string]map[string]string{
	"destination": {
		"-": "ndjson:-", "stdout": "ndjson:-", "/dev/stdout": "ndjson:-", "console": "ndjson:-", "ndjson": "ndjson:./out",
		"file": "ndjson:./out", "json": "ndjson:./out", "jsonl": "ndjson:./out",
		"postgres": "postgres://HOST/DATABASE", "postgresql": "postgres://HOST/DATABASE", "pg": "postgres://HOST/DATABASE", "psql": "postgres://HOST/DATABASE",
		"mongodb": "mongodb://HOST/DATABASE", "mongo": "mongodb://HOST/DATABASE",
	},
	"store": {
		"file": "file:./state", "files": "file:./state", "filestore": "file:./state", "disk": "file:./state", "ndjson": "file:./state",
		"mem": "memory", "memstore": "memory", "inmemory": "memory", "in-memory": "memory", "none": "memory",
		"redis": "redis://HOST:PORT", "rediss": "rediss://HOST:PORT", "redisstore": "redis://HOST:PORT",
		"valkey": "redis://HOST:PORT", "valkeys": "rediss://HOST:PORT", "redis+tls": "rediss://HOST:PORT", "keydb": "redis://HOST:PORT",
		"sentinel": "redis+sentinel://HOST:PORT/MASTER", "redis-sentinel": "redis+sentinel://HOST:PORT/MASTER",
		"postgres": "postgres://HOST/DATABASE", "postgresql": "postgres://HOST/DATABASE", "pg": "postgres://HOST/DATABASE", "psql": "postgres://HOST/DATABASE",
		"cluster": "redis+cluster://HOST:PORT", "redis-cluster": "redis+cluster://HOST:PORT",
	},
}

var (
	// somePath finds what can only be a path: ./x, ../x, ~/x, /x, x/y, C:\x.
	somePath = regexp.MustCompile(`^(\.{0,2}/|\.{1,2}$|~|\$HOME|[A-Za-z]:\\|[\w.-]+/)`)
	address  = regexp.MustCompile(`^[\w.-]+:\d+(/\d*)?$`)
)

// hinted adds to an error what was probably meant. It shows no part of the text but
// an address, where nothing of it can be a password.
func hinted(kinds []*Kind, what, text string, err error) error {
	word, rest, _ := strings.Cut(strings.ToLower(text), ":")
	write, known := instead[what][word]
	switch {
	case known && strings.HasPrefix(rest, "//") && Bare(kinds, text).Kind == nil:
		return fmt.Errorf("%w; write %s", err, write)
	case strings.Contains(text, "@"): // it has a password
	case known && (rest == "" || word == "ndjson" || word == "file"):
		return fmt.Errorf("%w; write %s", err, write)
	case what == "store" && address.MatchString(text):
		return fmt.Errorf("this is no URL; for Redis write redis://%s", text)
	case somePath.MatchString(text):
		return fmt.Errorf("this is no URL; for a directory write %s:PATH, such as %s", directories(kinds), instead[what]["file"])
	}
	if errors.Is(err, errNoURL) {
		return err
	}
	var schemes []string
	for _, k := range kinds {
		schemes = append(schemes, k.Schemes...)
	}
	if close := suggest.Similar(word, schemes); close != nil && strings.Contains(text, ":") {
		return fmt.Errorf("%w; did you mean %s:?", err, strings.Join(close, ": or "))
	}
	return fmt.Errorf("%w; there are %s", err, strings.Join(forms(kinds), ", "))
}

// directories is the scheme of the kind that writes to a directory.
func directories(kinds []*Kind) string {
	for _, k := range kinds {
		if k.path {
			return k.Name()
		}
	}
	return ""
}

// isBare reports whether the text is the name of a kind whose URLs are a scheme and
// nothing else, without its colon: memory.
func isBare(kinds []*Kind, text string) bool {
	for _, k := range kinds {
		if k.bare && text == k.Name() {
			return true
		}
	}
	return false
}
