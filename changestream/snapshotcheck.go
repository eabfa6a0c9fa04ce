package changestream

import (
	"context"
	"errors"
	"fmt"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/quote"
)

// CheckSnapshot returns why a source with these options can't copy, as
// [Source.CanSnapshot] does. It connects to nothing. Of options that are not valid it
// says nothing: see [Check].
func CheckSnapshot(o *Options) error {
	s, err := newSource(o)
	if err != nil {
		return nil
	}
	return s.CanSnapshot()
}

// SnapshotOf reports what there is to copy of some collections of a stream, as a copy of
// them that begins now would: see [RequestSnapshot]. It refuses collections that don't
// belong to the stream, don't exist or can't be copied, and what a snapshot of this
// server would be refused for. It reads no documents.
func (s *Source) SnapshotOf(ctx context.Context, stream string, collections ...rigatoni.Namespace) (rigatoni.SnapshotStatus, error) {
	status := rigatoni.SnapshotStatus{CollectionsTotal: len(collections)}
	sc, ok := s.scopes[stream]
	if !ok {
		return status, fmt.Errorf("changestream: there is no stream %q; the streams are %q", stream, s.names)
	}
	if err := errors.Join(sc.canCopy(), s.checkServer(ctx, sc)); err != nil {
		return status, err
	}
	l := newLister(s)
	for _, ns := range collections {
		if !sc.covers(ns) {
			return status, &notCopyableError{fmt.Sprintf("%s does not belong to %s", quote.Name(ns.String()), sc)}
		}
		switch absent, err := l.look(ctx, ns); {
		case err != nil:
			return status, err
		case !absent.IsZero():
			return status, &notCopyableError{quote.Name(ns.String()) + " does not exist"}
		}
		one := rigatoni.CollectionSnapshot{Namespace: ns}
		if size, err := l.size(ctx, ns); err == nil { // an estimate is of use, and not needed
			one.DocumentsEstimated, one.BytesEstimated = size.docs, size.bytes
		}
		status.DocumentsEstimated += one.DocumentsEstimated
		status.BytesEstimated += one.BytesEstimated
		if len(status.Collections) < listedCollections {
			status.Collections = append(status.Collections, one)
		}
	}
	return status, nil
}
