package checkpoints

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
)

// A Server is the deployment that checkpoints are of.
type Server struct {
	uri   string
	watch *changestream.Options // of the pipeline; nil if there is no configuration

	identity changestream.Identity
	history  rigatoni.History
	unread   error // why the history is unknown

	configured *changestream.Source // with watch
	others     []*changestream.Source
}

// Connect asks the server who it is and how far back its history reaches. The
// streams are those of watch or, if it is nil, those that the checkpoints'
// fingerprints name.
func Connect(ctx context.Context, uri string, watch *changestream.Options, log *slog.Logger) (*Server, error) {
	s := &Server{uri: uri, watch: watch}
	src, err := s.open(watch, log)
	if err != nil {
		return nil, err
	}
	s.configured = src
	if s.identity, err = src.Identify(ctx); err != nil {
		return nil, errors.Join(err, s.Close(ctx))
	}
	s.history, s.unread = src.History(ctx)
	return s, nil
}

func (s *Server) open(o *changestream.Options, log *slog.Logger) (*changestream.Source, error) {
	opts := changestream.Options{}
	if o != nil {
		opts = *o
	}
	opts.Logger = log
	return changestream.Open(s.uri, &opts)
}

// Close disconnects.
func (s *Server) Close(ctx context.Context) error {
	var errs []error
	for _, src := range append(s.others, s.configured) {
		errs = append(errs, src.Close(ctx))
	}
	return errors.Join(errs...)
}

// Now is the cluster time.
func (s *Server) Now() bson.Timestamp {
	if s.identity.Now.IsZero() {
		return s.history.Newest
	}
	return s.identity.Now
}

// A Stream is one stream of the server's.
type Stream struct {
	source      *changestream.Source
	name        string // among the source's
	Fingerprint string
}

// Stream is the stream that a key's checkpoint is of: that of the configuration, if
// it has one of that name, or that of the checkpoint's fingerprint.
func (s *Server) Stream(k Key, fingerprint string) (Stream, error) {
	if s.watch != nil && k.Configured {
		if !slices.Contains(s.configured.Streams(), k.Stream) {
			return Stream{}, fmt.Errorf("%w: the pipeline has no stream %q; it has %q", ErrUnknownStream, k.Stream, s.configured.Streams())
		}
		fp, err := s.configured.Fingerprint(k.Stream, s.identity)
		return Stream{s.configured, k.Stream, fp}, err
	}
	o, ok := changestream.OptionsOf(fingerprint)
	if !ok {
		return Stream{}, fmt.Errorf("%w: the checkpoint of %q doesn't say which; give the pipeline's file, or its --database and --collections", ErrUnknownStream, k)
	}
	src, err := s.open(&o, slog.New(slog.DiscardHandler)) // what the first one has logged
	if err != nil {
		return Stream{}, err
	}
	s.others = append(s.others, src)
	fp, err := src.Fingerprint("", s.identity)
	return Stream{src, "", fp}, err
}
