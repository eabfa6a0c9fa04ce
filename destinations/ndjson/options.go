package ndjson

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/extjson"
	"github.com/rigatoni-etl/rigatoni/internal/option"
)

// Options say how to write. The zero value of each field is its default.
type Options struct {
	// Format is the form of JSON. Default [extjson.Relaxed].
	Format extjson.Mode `help:"Extended JSON, or plain JSON" want:"relaxed, canonical or simplified" default:"relaxed" oneof:"relaxed|canonical|simplified"`

	// MaxFileBytes is the size beyond which a file is not continued; an event
	// that is larger has a file of its own. Default 128 MiB; -1: no limit.
	// [To] has no files and refuses it.
	MaxFileBytes int64 `help:"finish a file at this size" kind:"size" default:"128MiB" off:"no limit" min:"1"`

	// MaxFileAge is how long after its first event a file is ended. It is finished
	// as soon as a checkpoint covers it. Default 1 h; -1: no limit. [To] refuses it.
	MaxFileAge time.Duration `help:"finish a file at this age" default:"1h" off:"no limit"`

	// Stdout is what [OpenURL] writes to for ndjson:-. Default os.Stdout.
	Stdout io.Writer

	// Logger receives log output: what was cut back at a start, and files that are
	// left behind. Default slog.Default().
	Logger *slog.Logger
}

func (o *Options) orDefaults() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	if c.Format > extjson.Simplified {
		return c, fmt.Errorf("ndjson: Options.Format is %v; it must be extjson.Relaxed, Canonical or Simplified", c.Format)
	}
	if err := option.Complete("ndjson: Options.", &c); err != nil {
		return c, err
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

// Open returns a destination that writes to files in dir. Nothing is created
// before a stream is opened.
func Open(dir string, o *Options) (*Files, error) {
	c, err := o.orDefaults()
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

// OpenURL opens the destination that u names: ndjson:DIR for files in a
// directory, relative (ndjson:out, ndjson:./out) or absolute (ndjson:/var/out),
// and ndjson:- for standard output. Characters that are special in a URL are
// escaped: %3F. ~/ and $HOME/ at the beginning of a path are the home directory.
//
// The parameters format, max-file-bytes and max-file-age override the corresponding
// fields of o. Other parameters are refused.
func OpenURL(_ context.Context, u *url.URL, o *Options) (rigatoni.Destination, error) {
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
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("ndjson: the URL's parameters can't be read")
	}
	if err := option.FromQuery(&c, query); err != nil {
		return nil, fmt.Errorf("ndjson: %w", err)
	}
	path := u.Path
	if u.Opaque != "" {
		if path, err = url.PathUnescape(u.Opaque); err != nil {
			return nil, errors.New("ndjson: the URL's path has a % that begins no escape; write %25")
		}
	}
	if path, err = option.Path(path); err != nil {
		return nil, fmt.Errorf("ndjson: the URL's path %w", err)
	}
	if path != "-" {
		return Open(path, &c)
	}
	if c.Stdout == nil {
		c.Stdout = os.Stdout
	}
	return To(c.Stdout, &c)
}
