package changestream

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/glob"
)

var _ rigatoni.Overlapper = (*Source)(nil)

// Overlaps implements [rigatoni.Overlapper]. Streams overlap if they are of the same
// deployment, as far as is known, and have a namespace and an operation in common;
// what a user's pipeline selects is not looked at.
func (s *Source) Overlaps(ctx context.Context, name string) (func(string) rigatoni.Overlap, error) {
	sc, ok := s.scopes[name]
	if !ok {
		return nil, fmt.Errorf("changestream: there is no stream %q; there are %q", name, s.names)
	}
	id, err := s.identify(ctx)
	if err != nil {
		return nil, sc.refused("connect to the server", err)
	}
	return fingerprint{deployment: id.deployment, scope: sc}.overlap, nil
}

// overlap compares the stream with another one's fingerprint.
func (f fingerprint) overlap(text string) rigatoni.Overlap {
	other, ok := parse(text)
	if name, legacy := strings.CutPrefix(text, legacyPrefix); legacy {
		other, ok = legacyFields(name), true
	}
	ours, _ := parse(f.String())
	switch {
	case !ok || !sameDeployment(ours, other):
		return rigatoni.NoOverlap
	case !anyCommon(ours[fieldDatabase], other[fieldDatabase]),
		!anyCommon(ours[fieldCollections], other[fieldCollections]),
		!anyCommon(ours[fieldOperations], other[fieldOperations]):
		return rigatoni.NoOverlap
	}
	for _, field := range []string{fieldDatabase, fieldOperations, fieldExpanded, fieldPipeline} {
		if ours[field] != other[field] {
			return rigatoni.SomeOverlap
		}
	}
	return rigatoni.SameButCollections
}

// sameDeployment reports whether two streams may be of one deployment. The id
// decides where both have it; nothing is known where one has neither id nor name.
func sameDeployment(a, b map[string]string) bool {
	for _, fields := range []map[string]string{a, b} {
		if fields[fieldID] == "" && fields[fieldSet] == "" {
			return true
		}
	}
	if a[fieldID] != "" && b[fieldID] != "" {
		return a[fieldID] == b[fieldID]
	}
	return a[fieldSet] == b[fieldSet]
}

// anyCommon reports whether two lists of names and patterns have a name in common.
// Empty stands for all.
func anyCommon(a, b string) bool {
	if a == "" || b == "" {
		return true
	}
	others := strings.Split(b, ",")
	return slices.ContainsFunc(strings.Split(a, ","), func(x string) bool {
		return slices.ContainsFunc(others, func(y string) bool { return glob.Overlap(x, y) })
	})
}
