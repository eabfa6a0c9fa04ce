package config

import (
	"slices"
	"time"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/changestream"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/backend"
	"github.com/rigatoni-etl/rigatoni/internal/option"
)

// Settings is everything that can be set. What was not set is zero, which is the
// default of every field that has one.
type Settings struct {
	Server      Server
	Watch       changestream.Options // its options
	Output      Output
	Checkpoints Checkpoints
	Pipeline    rigatoni.Config // its options, and Name
	Monitoring  Monitoring
	Messages    Messages
	Ignored     []string // variables of the environment that look like settings, and are none

	origin map[string]string // where each option was set: "pipeline.yaml:3", "--store"
}

// Given reports whether an option was set.
func (s *Settings) Given(name string) bool { return s.origin[name] != "" }

// Server is where to read from.
type Server struct {
	Source string `group:"What to watch" help:"the replica set or sharded cluster: mongodb://… or mongodb+srv://…" arg:"URL" kind:"url" pattern:"mongodb(\\+srv)?://.*" want:"the URL of a MongoDB server, which begins with mongodb:// or mongodb+srv://" require:"the server to read from, as --source 'mongodb://localhost:27017'"`
}

// Output is where events go.
type Output struct {
	To          backend.Destination `group:"Where events go" help:"the destination; its options are parameters of the URL, or fields beside url: in the file" arg:"URL" kind:"url" require:"where events go, as --to ndjson:./out"`
	DeadLetters string              `help:"write refused events to files in this directory, and continue; by default stop" arg:"DIR" kind:"path"`
}

// Checkpoints is where the checkpoints are kept, and what a first start does.
type Checkpoints struct {
	Name  string        `group:"Where checkpoints are kept" help:"the name of the pipeline and its checkpoint; by default the database's" arg:"NAME" pattern:"[^/]{1,512}" want:"at most 512 bytes, without a slash, which separates it from the name of a stream"`
	Store backend.Store `help:"the store; its options are parameters of the URL, or fields beside url: in the file" arg:"URL" kind:"url" require:"where the checkpoint is kept, as --store file:./state"`
	Start Start         `help:"where to begin without a checkpoint, by default now; none refuses to" arg:"TIME" want:"now, a time such as 2026-11-23T00:46:00Z, a cluster time (seconds.increment) such as 1794000000.2, or none (refuse to begin without a checkpoint)"`
}

// Monitoring is what is served over HTTP, and when a pipeline is ready.
type Monitoring struct {
	HTTP               string        `group:"Monitoring" help:"serve a status page, /status, /metrics, /readyz and /healthz at this address; a port alone (9600) is of this machine only" arg:"ADDR" pattern:"(.*:)?([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])" want:"a port (9600), of this machine only, or HOST:PORT (0.0.0.0:9600)"`
	ReadyCheckpointAge time.Duration `help:"not ready when the checkpoint was saved longer ago; by default 1m, or three idle intervals where that is longer" off:"no limit" min:"1s"`
	ReadyRunway        time.Duration `help:"not ready when the oplog reaches back beyond a checkpoint by less than this" default:"10m" off:"no limit" min:"1s"`
}

// Messages are those on standard error.
type Messages struct {
	LogLevel         string        `group:"Messages" help:"the lowest level of messages" arg:"LEVEL" oneof:"debug|info|warn|error" default:"info"`
	LogFormat        string        `help:"the format of messages" arg:"FORMAT" oneof:"text|json" default:"text"`
	ProgressInterval time.Duration `help:"how often to log the progress where standard error is no terminal" default:"30s" off:"never, and no status line on a terminal"`
}

// A Field is one option, and the part of Settings that it is in.
type Field struct {
	Option option.Option
	Kinds  []*backend.Kind // for a URL of a back end: those that there are

	part func(*Settings) any
}

// Fields are all options, by group.
var Fields = fields(
	func(s *Settings) any { return &s.Server },
	func(s *Settings) any { return &s.Watch },
	func(s *Settings) any { return &s.Output },
	func(s *Settings) any { return &s.Checkpoints },
	func(s *Settings) any { return &s.Pipeline.FirstStart },
	func(s *Settings) any { return &s.Pipeline },
	func(s *Settings) any { return &s.Monitoring },
	func(s *Settings) any { return &s.Messages },
)

var kinds = map[string][]*backend.Kind{"to": backend.Destinations, "store": backend.Stores}

func fields(parts ...func(*Settings) any) []Field {
	var all []Field
	for _, part := range parts {
		for _, o := range option.Of(part(&Settings{})) {
			all = append(all, Field{Option: o, Kinds: kinds[o.Name], part: part})
		}
	}
	return together(all)
}

// together puts the options of a group that two parts have into one place, that of the
// later part, whose options come first.
func together(all []Field) (out []Field) {
	earlier := map[string][]Field{}
	for i, f := range all {
		group := f.Option.Group
		rest := all[i+1:]
		end := slices.IndexFunc(rest, func(g Field) bool { return g.Option.Group != group })
		if end >= 0 && slices.ContainsFunc(rest[end:], func(g Field) bool { return g.Option.Group == group }) {
			earlier[group] = append(earlier[group], f)
			continue
		}
		out = append(out, f)
		if end == 0 || len(rest) == 0 {
			out = append(out, earlier[group]...)
		}
	}
	return out
}

// ByName finds an option.
func ByName(name string) (Field, bool) {
	for _, f := range Fields {
		if f.Option.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

// set gives the option its value. Messages show the text instead.
func (f Field) set(s *Settings, texts []string, instead string) error {
	return f.Option.SetAs(f.part(s), texts, instead)
}

// ref is the back end that the option names.
func (f Field) ref(s *Settings) backend.Ref {
	if f.Option.Name == "to" {
		return s.Output.To.Ref
	}
	return s.Checkpoints.Store.Ref
}

// Check reports what is wrong with a single option's value.
func Check(name, text string) error {
	f, _ := ByName(name)
	return f.set(&Settings{}, f.split(text), "")
}

// split returns the values in the text of a flag, or of one scalar.
func (f Field) split(text string) []string {
	if f.Option.List {
		return option.SplitList(text)
	}
	return []string{text}
}
