package filestore

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"

	"github.com/rigatoni-etl/rigatoni/state"
)

// OpenURL opens the store that a URL names: file:PATH for a path relative to the
// working directory, or file:///PATH for an absolute one. There are no parameters.
func OpenURL(ctx context.Context, u *url.URL) (state.Store, error) {
	dir, err := dirOfURL(u)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, &state.Error{Op: "open", Store: "filestore", Err: err}
	}
	s, err := Open(dir, nil)
	if err != nil {
		return nil, err // not s: a nil *Store in the interface would not be nil
	}
	return s, nil
}

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
	for name := range u.Query() {
		return "", invalid("the file: URL has the parameter %q, and takes none", name)
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
	if runtime.GOOS == "windows" && len(dir) > 2 && dir[0] == '/' && dir[2] == ':' {
		dir = dir[1:]
	}
	return filepath.FromSlash(dir), nil
}
