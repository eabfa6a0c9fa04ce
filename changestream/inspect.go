package changestream

import (
	"context"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// An Identity is what a server says about itself.
type Identity struct {
	// Set is the name of the replica set, and ID the id that it got when it was
	// initiated; empty if they can't be read.
	Set, ID string
	// Now is the cluster time; zero if the server doesn't say.
	Now bson.Timestamp
}

// Identify asks the server who it is.
func (s *Source) Identify(ctx context.Context) (Identity, error) {
	id, err := s.identify(ctx)
	if err != nil {
		return Identity{}, scope{}.refused("connect to the server", err)
	}
	return Identity{Set: id.deployment.set, ID: id.deployment.id, Now: id.now}, nil
}

// Has reports whether a stream with that fingerprint is one of this deployment. It
// is true where that can't be told.
func (i Identity) Has(fingerprint string) bool {
	of, ok := parse(fingerprint)
	switch {
	case !ok:
		return true
	case of[fieldID] != "" && i.ID != "":
		return of[fieldID] == escaper.Replace(i.ID)
	}
	return of[fieldSet] == "" || i.Set == "" || of[fieldSet] == escaper.Replace(i.Set)
}

// Fingerprint is that of the stream of that name, on a deployment.
func (s *Source) Fingerprint(name string, of Identity) (string, error) {
	sc, ok := s.scopes[name]
	if !ok {
		return "", fmt.Errorf("changestream: there is no stream %q; there are %q", name, s.names)
	}
	return fingerprint{deployment: deployment{set: of.Set, id: of.ID}, scope: sc}.String(), nil
}

// Differences lists how the stream that a checkpoint's fingerprint identifies
// differs from another, one line each; none if either is empty.
func Differences(checkpoint, other string) []string {
	if checkpoint == "" || other == "" || checkpoint == other {
		return nil
	}
	return differences(checkpoint, other)
}

// OptionsOf returns the options of the stream that a fingerprint identifies, for
// programs that have a checkpoint and no configuration. The stages of
// [Options.Pipeline] are not in it: the stream has the events that they filter out,
// too. ok is false if the fingerprint is empty or not one of this package's.
func OptionsOf(fingerprint string) (o Options, ok bool) {
	fields, ok := parse(fingerprint)
	if !ok {
		return Options{}, false
	}
	return Options{
		Database:       unescaped(fields[fieldDatabase]),
		Collections:    unlisted(fields[fieldCollections]),
		Operations:     unlisted(fields[fieldOperations]),
		ExpandedEvents: fields[fieldExpanded] == "on",
	}, true
}

var unescaper = strings.NewReplacer("%25", "%", "%20", " ", "%2C", ",", "%3D", "=", "%0A", "\n", "%0D", "\r", "%09", "\t")

func unescaped(text string) string { return unescaper.Replace(text) }

// unlisted is the inverse of listed.
func unlisted(text string) []string {
	if text == "" {
		return nil
	}
	names := strings.Split(text, ",")
	for i, n := range names {
		names[i] = unescaped(n)
	}
	return names
}
