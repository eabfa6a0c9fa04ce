package ndjson

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/extjson"
)

// The defaults of [Options].
const (
	DefaultMaxFileBytes = 128 << 20
	DefaultMaxFileAge   = time.Hour
)

// Options say how to write. The zero value of each field is its default.
type Options struct {
	// Canonical writes canonical Extended JSON v2, which keeps the type of every
	// number ({"$numberInt":"5"}), instead of the relaxed form (5).
	Canonical bool `help:"write canonical Extended JSON, which keeps the type of every number"`

	// MaxFileBytes is the size beyond which a file is not continued; an event
	// that is larger has a file of its own. Default 128 MiB; -1: no limit.
	// [To] has no files and refuses it.
	MaxFileBytes int64 `help:"finish a file at this size" default:"128MiB" kind:"size" off:"no limit" min:"1"`

	// MaxFileAge is how long after its first event a file is ended, at the next
	// delivery or save. Default 1 h; -1: no limit. [To] refuses it.
	MaxFileAge time.Duration `help:"finish a file at this age" default:"1h" off:"no limit"`

	// Logger is told what was cut off at the start, and of files that are left
	// behind. Default slog.Default().
	Logger *slog.Logger
}

func (o *Options) withDefaults() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	if c.MaxFileBytes < -1 {
		return c, fmt.Errorf("ndjson: Options.MaxFileBytes is %d; it must be positive, 0 for %d, or -1 for no limit", c.MaxFileBytes, DefaultMaxFileBytes)
	}
	if c.MaxFileAge < 0 && c.MaxFileAge != -1 {
		return c, fmt.Errorf("ndjson: Options.MaxFileAge is %v; it must be positive, 0 for %v, or -1 for no limit", c.MaxFileAge, DefaultMaxFileAge)
	}
	c.MaxFileBytes = cmp.Or(c.MaxFileBytes, DefaultMaxFileBytes)
	c.MaxFileAge = cmp.Or(c.MaxFileAge, DefaultMaxFileAge)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

// OpenURL opens the destination that u names: ndjson:DIR for files in a
// directory, relative (ndjson:out, ndjson:./out) or absolute (ndjson:/var/out),
// and ndjson:- for stdout. What is special in a URL is written %3F and so on.
//
// The parameters canonical (true or false), max_file_bytes and max_file_age (a Go
// duration) stand for the fields of [Options], and go before those of o. Others
// are refused.
func OpenURL(u *url.URL, stdout io.Writer, o *Options) (rigatoni.Destination, error) {
	if u.Scheme != "ndjson" {
		return nil, fmt.Errorf("ndjson: the URL's scheme is %q, not ndjson", u.Scheme)
	}
	if u.Host != "" || u.User != nil || u.Fragment != "" {
		return nil, errors.New("ndjson: a URL has a path only: ndjson:./out, ndjson:/var/out, or ndjson:- for standard output")
	}
	var c Options
	if o != nil {
		c = *o
	}
	if err := c.fromQuery(u.RawQuery); err != nil {
		return nil, err
	}
	path := u.Path
	if u.Opaque != "" {
		var err error
		if path, err = url.PathUnescape(u.Opaque); err != nil {
			return nil, errors.New("ndjson: the URL's path has a % that begins no escape; write %25")
		}
	}
	if path == "-" {
		return To(stdout, &c)
	}
	return Open(path, &c)
}

func (o *Options) fromQuery(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("ndjson: the URL's parameters can't be read")
	}
	for name, v := range values {
		text := v[len(v)-1]
		switch name {
		case "canonical":
			o.Canonical, err = strconv.ParseBool(text)
		case "max_file_bytes":
			o.MaxFileBytes, err = strconv.ParseInt(text, 10, 64)
		case "max_file_age":
			if text == "-1" {
				o.MaxFileAge = -1
				continue
			}
			o.MaxFileAge, err = time.ParseDuration(text)
		default:
			return fmt.Errorf("ndjson: unknown parameter %q in the URL; there are canonical, max_file_bytes and max_file_age", name)
		}
		if err != nil {
			return fmt.Errorf("ndjson: the parameter %s can't be %q", name, text)
		}
	}
	return nil
}

// Open returns a destination that writes to files in dir. Nothing is created
// before a stream is attached.
func Open(dir string, o *Options) (*Files, error) {
	c, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if dir == "" {
		return nil, errors.New("ndjson: no directory is given")
	}
	dir, err = filepath.Abs(dir) // a later chdir must not move the output
	if err != nil {
		return nil, fmt.Errorf("ndjson: %w", err)
	}
	return &Files{dir: dir, o: c, fs: osFS{}}, nil
}

func (o *Options) mode() extjson.Mode {
	if o.Canonical {
		return extjson.Canonical
	}
	return extjson.Relaxed
}
