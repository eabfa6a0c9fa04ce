// Package backend opens the stores and destinations that the command's URLs
// name. It is the one place that knows them all.
package backend

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/destinations/ndjson"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/filestore"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

var redisSchemes = []string{"redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster", "unix", "redis+unix"}

// OpenStore opens the store of a URL: memory:, file:PATH, or any that
// redisstore.Open takes. The caller closes it with state.Close.
func OpenStore(ctx context.Context, rawURL string, log *slog.Logger) (state.Store, error) {
	if scheme, _, ok := strings.Cut(rawURL, "://"); ok && slices.Contains(redisSchemes, scheme) {
		return opened(redisstore.Open(ctx, rawURL, &redisstore.Options{Logger: log})) // it may have several hosts
	}
	u, err := config.ParseURL(rawURL)
	if err != nil {
		return nil, errors.New("the store's URL " + err.Error())
	}
	switch u.Scheme {
	case "memory":
		return opened(memstore.OpenURL(ctx, u))
	case "file":
		return opened(filestore.OpenURL(ctx, u, &filestore.Options{Logger: log}))
	}
	return nil, errors.New("there is no store of the scheme " + u.Scheme)
}

// opened keeps a nil pointer from becoming an interface that is not nil.
func opened[S state.Store](s S, err error) (state.Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// OpenDestination opens the destination of a URL: ndjson:DIR, or ndjson:- for
// standard output.
func OpenDestination(s config.Settings, stdout io.Writer, log *slog.Logger) (rigatoni.Destination, error) {
	u, err := config.ParseURL(s.To)
	if err != nil {
		return nil, errors.New("the destination's URL " + err.Error())
	}
	return ndjson.OpenURL(u, stdout, ndjsonOptions(s, log))
}

func ndjsonOptions(s config.Settings, log *slog.Logger) *ndjson.Options {
	return &ndjson.Options{Canonical: s.Canonical, MaxFileBytes: s.RotateSize, MaxFileAge: s.RotateAge, Logger: log}
}
