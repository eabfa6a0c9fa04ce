package changestream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/internal/backoff"
	"github.com/rigatoni-etl/rigatoni/internal/glob"
	"github.com/rigatoni-etl/rigatoni/internal/quote"
	"github.com/rigatoni-etl/rigatoni/state"
)

// copyAwait is how long the server waits for events while a copy waits for the stream.
const copyAwait = 5 * time.Millisecond

// A copyOpening opens a stream with a copy.
type copyOpening struct {
	src   *Source
	scope scope
	again bool
	state *copyState // nil: the copy begins where the stream does
	lists *lister
}

// copyOf returns what opens a stream with a copy, nil if there is none: one that begins,
// or one that the checkpoint has the state of.
func (s *Source) copyOf(ctx context.Context, sc scope, at rigatoni.Start) (*copyOpening, error) {
	// Who asks for the events since a time gets them, whatever the copy has of them.
	again := at.SnapshotAgain || !at.Time.IsZero()
	o := &copyOpening{src: s, scope: sc, again: again, lists: newLister(s)}
	if at.Checkpoint != nil {
		var err error
		if o.state, err = parseCopyState(at.Checkpoint.Extra[rigatoni.ExtraSnapshot]); err != nil {
			return nil, err
		}
		o.state = o.state.within(sc)
	}
	if o.state == nil && !(at.Snapshot && at.Checkpoint == nil) {
		return nil, nil
	}
	if err := sc.canCopy(); err != nil {
		return nil, err
	}
	return o, s.checkServer(ctx, sc)
}

// within leaves out the collections that are no longer of the scope.
func (s *copyState) within(sc scope) *copyState {
	for _, ns := range s.names() {
		if !sc.covers(ns) {
			s = s.forget(ns)
		}
	}
	return s
}

// names are those of all collections of the copy.
func (s *copyState) names() (names []rigatoni.Namespace) {
	if s == nil {
		return nil
	}
	for _, run := range s.runs {
		for _, c := range run.active {
			names = append(names, c.ns)
		}
		for ns := range run.pending.all {
			names = append(names, ns)
		}
	}
	return names
}

// checkServer refuses a server that can't be read at a time of the past.
func (s *Source) checkServer(ctx context.Context, sc scope) error {
	var build struct {
		Version      string  `bson:"version"`
		VersionArray []int32 `bson:"versionArray"`
	}
	if err := s.ask(ctx, "buildInfo", &build); err != nil {
		return sc.refused("ask for the server's version", err)
	}
	var hello struct {
		Msg string `bson:"msg"`
	}
	if err := s.ask(ctx, "hello", &hello); err != nil {
		return sc.refused("connect to the server", err)
	}
	switch {
	case len(build.VersionArray) > 0 && build.VersionArray[0] < 5:
		return &streamError{
			text:   fmt.Sprintf("%s: a snapshot needs MongoDB 5.0 or later, whose reads can be of a time (atClusterTime); this is %s", sc, quote.Text(build.Version)),
			causes: []error{ErrRefused},
		}
	case hello.Msg == "isdbgrid":
		return &streamError{
			text:   fmt.Sprintf("%s: a snapshot of a sharded cluster is not possible yet (this is a mongos); run without a snapshot", sc),
			causes: []error{ErrRefused},
		}
	}
	return nil
}

// open begins the copy at the stream's position, or goes on with it. What exists is
// listed after the stream was opened, as it is then: what is created later, the stream
// has.
func (o *copyOpening) open(ctx context.Context, st *stream) (rigatoni.Stream, error) {
	if o.state != nil {
		if err := insist(ctx, func() error { return o.relist(ctx) }); err != nil {
			return nil, err
		}
		o.warn(st, o.state.names())
		return newCopyStream(st, o.state, o.lists, true), nil
	}
	var names []rigatoni.Namespace
	var listed bson.Timestamp
	err := insist(ctx, func() (err error) {
		names, listed, err = o.lists.exact(ctx, o.scope, tick(st.at.ClusterTime, -1))
		return err
	})
	if err != nil {
		return nil, err
	}
	if o.again {
		names = o.scope.withMissing(names)
	}
	if o.state = newCopyState(st.at.Token, listed, o.again, names, time.Now()); o.state != nil {
		docs, bytes, ok := o.lists.estimate(ctx, names)
		o.state.figures.DocsEstimated, o.state.figures.BytesEstimated, o.state.runs[0].estimated = docs, bytes, ok
	}
	if _, err := o.state.encoded(); err != nil {
		return nil, err
	}
	o.warn(st, names)
	return newCopyStream(st, o.state, o.lists, false), nil
}

// withMissing adds the collections that are named and don't exist: the end of their copy
// has the destination remove what it has of them.
func (s scope) withMissing(names []rigatoni.Namespace) []rigatoni.Namespace {
	if glob.IsPattern(s.database) {
		return names
	}
	for _, coll := range s.collections {
		ns := rigatoni.Namespace{DB: s.database, Coll: coll}
		if !glob.IsPattern(coll) && !slices.Contains(names, ns) {
			names = append(names, ns)
		}
	}
	return names
}

// insistTime is how long the lists are asked for while the server elects a primary.
const insistTime = 30 * time.Second

// insist repeats what an election or a broken connection has interrupted.
func insist(ctx context.Context, f func() error) error {
	for deadline := time.Now().Add(insistTime); ; {
		err := f()
		temporary := mongo.IsNetworkError(err) || code(err) != 0 && judge(err, atAggregate) == retry
		if !temporary || time.Now().After(deadline) || backoff.Wait(ctx, 200*time.Millisecond) != nil {
			return err
		}
	}
}

// relist refuses collections that can't be copied, of a copy that goes on.
func (o *copyOpening) relist(ctx context.Context) error {
	names := o.state.names()
	var databases []string
	for _, ns := range names {
		if !slices.Contains(databases, ns.DB) {
			databases = append(databases, ns.DB)
		}
	}
	for _, db := range databases {
		if _, err := o.lists.list(ctx, db, bson.D{}, bson.Timestamp{}); err != nil {
			return o.lists.cantList(o.scope, db, err)
		}
	}
	var refusals []error
	for _, ns := range names {
		if info, ok := o.lists.known[ns]; ok {
			refusals = append(refusals, info.copyable(ns))
		}
	}
	return errors.Join(refusals...)
}

// warn logs what a copy can't do for some collections.
func (o *copyOpening) warn(st *stream, names []rigatoni.Namespace) {
	for _, ns := range names {
		if o.lists.known[ns].unordered() {
			st.reader.log.Warn("a collection has a collation, so its documents' order is not that of their bytes: the snapshot copies it in one range, and changes of a document may be delivered before the document",
				"collection", ns.String())
		}
	}
}

// estimateTime is how long a start waits for the sizes of all collections. Those that
// take longer have no estimate.
const estimateTime = 5 * time.Second

// estimate adds up the sizes of collections. It is false if they are too many to ask
// for: each is then estimated when its copy begins.
func (l *lister) estimate(ctx context.Context, names []rigatoni.Namespace) (docs, bytes int64, ok bool) {
	ctx, cancel := limited(ctx, estimateTime)
	defer cancel()
	for _, ns := range names {
		size, err := l.size(ctx, ns)
		if err != nil {
			return 0, 0, false
		}
		docs, bytes = docs+size.docs, bytes+size.bytes
	}
	return docs, bytes, true
}

// CanSnapshot implements [rigatoni.Snapshotter]: it refuses a pipeline that may remove
// the new name from a rename event, without which a copy would lose the collection.
func (s *Source) CanSnapshot() error {
	for _, name := range s.names {
		if err := s.scopes[name].canCopy(); err != nil {
			return err
		}
	}
	return nil
}

func (s scope) canCopy() error {
	for i, stage := range s.pipeline.stages {
		doc := stage(passing{})
		if why := losesTo(doc); why != "" {
			return fmt.Errorf("changestream: Options.Pipeline[%d]: during a snapshot %s must keep the field to, which says what a collection was renamed to; %s", i, doc[0].Key, why)
		}
	}
	return nil
}

// losesTo is what to do about a stage that may remove or change the field "to"; empty if
// it doesn't.
func losesTo(stage bson.D) string {
	name := stage[0].Key
	switch spec := stage[0].Value.(type) {
	case bson.D:
		return losesToIn(name, spec)
	case bson.A:
		if slices.ContainsFunc(spec, func(p any) bool { path, _ := p.(string); return isTo(path) }) {
			return "leave it out of the stage"
		}
	case string:
		if name == "$unset" && isTo(spec) {
			return "leave it out of the stage"
		}
	}
	return ""
}

func isTo(path string) bool { return path == "to" || strings.HasPrefix(path, "to.") }

func losesToIn(name string, spec bson.D) string {
	i := slices.IndexFunc(spec, func(e bson.E) bool { return isTo(e.Key) })
	switch name {
	case "$project":
		switch {
		case i < 0 && including(spec):
			return "add to: 1"
		case i >= 0 && !(spec[i].Key == "to" && (includes(spec[i].Value) || isItself(spec[i]))):
			return "write to: 1"
		}
	case "$set", "$addFields":
		if i >= 0 && !isItself(spec[i]) {
			return "give the result another name"
		}
	case "$replaceRoot", "$replaceWith":
		if !rootKeepsTo(stageRoot(name, spec)) {
			return `add to: "$to"`
		}
	}
	return ""
}

// stageRoot is the expression that becomes the event.
func stageRoot(name string, spec bson.D) any {
	if name == "$replaceRoot" && len(spec) == 1 && spec[0].Key == "newRoot" {
		return spec[0].Value
	}
	return spec
}

func rootKeepsTo(root any) bool {
	doc, ok := root.(bson.D)
	if !ok {
		return true // $$ROOT
	}
	if len(doc) == 1 && doc[0].Key == "$mergeObjects" {
		parts, _ := doc[0].Value.(bson.A)
		last := true
		keeps := false
		for _, p := range parts {
			part, ok := p.(bson.D)
			has := !ok || slices.ContainsFunc(part, func(e bson.E) bool { return isTo(e.Key) })
			keeps = keeps || has
			last = !has || rootKeepsTo(p)
			if !last {
				return false
			}
		}
		return keeps
	}
	i := slices.IndexFunc(doc, func(e bson.E) bool { return isTo(e.Key) })
	return i >= 0 && isItself(doc[i])
}

// copyStages are the user's stages, for documents that are copied; nil if there are
// none. They see a document as the insert event of it.
func (s scope) copyStages() (stages []bson.D) {
	for _, stage := range s.pipeline.stages {
		stages = append(stages, stage(passing{}))
	}
	return stages
}

// RequestSnapshot returns a checkpoint whose stream copies collections once more, from
// where it stands: the next Open begins with them, also where their copy is under way.
// Events of their documents are delivered meanwhile, since the destination may have the
// documents. Each must exist and belong to the stream; one that doesn't is left out when
// the stream is opened.
func RequestSnapshot(cp state.Checkpoint, collections ...rigatoni.Namespace) (state.Checkpoint, error) {
	for _, ns := range collections {
		if ns.DB == "" || ns.Coll == "" {
			return cp, fmt.Errorf("changestream: %q is not the name of a collection; write DATABASE.COLLECTION: %w", ns.String(), state.ErrInvalid)
		}
		if o, ok := OptionsOf(cp.Fingerprint); ok && !(scope{database: o.Database, collections: o.Collections}).covers(ns) {
			return cp, fmt.Errorf("changestream: %s is not a collection of the checkpoint's stream (%s): %w", quote.Name(ns.String()), scope{database: o.Database, collections: o.Collections}, state.ErrInvalid)
		}
	}
	s, err := parseCopyState(cp.Extra[rigatoni.ExtraSnapshot])
	if err != nil || len(collections) == 0 {
		return cp, err
	}
	text, err := s.requested(cp, collections, time.Now()).encoded()
	if err != nil {
		return cp, err
	}
	cp = cp.Clone()
	if cp.Extra == nil {
		cp.Extra = map[string]json.RawMessage{}
	}
	cp.Extra[rigatoni.ExtraSnapshot] = json.RawMessage(text)
	return cp, nil
}

func (s *copyState) requested(cp state.Checkpoint, collections []rigatoni.Namespace, now time.Time) *copyState {
	var names []rigatoni.Namespace
	for _, ns := range collections {
		s = s.forget(ns)
		if !slices.Contains(names, ns) {
			names = append(names, ns)
		}
	}
	asked := newCopyState(cp.Token, bson.Timestamp{}, true, names, now)
	if s == nil {
		return asked
	}
	return s.edit(func(s *copyState) {
		s.runs = append(asked.runs, s.runs...)
		s.figures.Collections += len(names)
	})
}
