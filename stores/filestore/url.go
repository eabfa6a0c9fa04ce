package filestore

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"

	"github.com/rigatoni-etl/rigatoni/internal/option"
	"github.com/rigatoni-etl/rigatoni/state"
)

// OpenURL opens the store that a URL names: file:PATH for a path relative to the
// working directory, or file:///PATH for an absolute one. URL parameters override
// the corresponding options. ~/ and $HOME/ at the beginning of a path are the home
// directory.
func OpenURL(ctx context.Context, u *url.URL, o *Options) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, openError(err)
	}
	dir, err := dirOfURL(u)
	if err != nil {
		return nil, openError(err)
	}
	var opts Options
	if o != nil {
		opts = *o
	}
	if err := option.FromQuery(&opts, u.Query()); err != nil {
		return nil, openError(fmt.Errorf("%w: %w", state.ErrInvalid, err))
	}
	return Open(dir, &opts)
}

func openError(err error) error { return &state.Error{Op: "open", Store: "filestore", Err: err} }

func dirOfURL(u *url.URL) (string, error) {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{state.ErrInvalid}, args...)...)
	}
	switch {
	case u.Scheme != "file":
		return "", invalid("the URL's scheme is %q, and this store's is \"file\"", u.Scheme)
	case u.User != nil:
		return "", invalid("a file: URL has no user")
	case u.Host != "" && u.Host != "localhost":
		return "", invalid("the file: URL names the host %q: write file:PATH or file:///PATH", u.Host)
	case u.Fragment != "":
		return "", invalid("the file: URL has a \"#\": write it as %%23")
	}
	dir := u.Path
	if u.Opaque != "" {
		var err error
		if dir, err = url.PathUnescape(u.Opaque); err != nil {
			return "", invalid("the path in the file: URL is not well escaped: %w", err)
		}
	}
	if dir == "" {
		return "", invalid("the file: URL has no path: write file:PATH")
	}
	dir, err := option.Path(dir)
	if err != nil {
		return "", invalid("the path in the file: URL %w", err)
	}
	if runtime.GOOS == "windows" && len(dir) > 2 && dir[0] == '/' && dir[2] == ':' {
		dir = dir[1:]
	}
	return filepath.FromSlash(dir), nil
}
