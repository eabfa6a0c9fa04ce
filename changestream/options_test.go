package changestream

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/rigatoni-etl/rigatoni"
)

func TestOptionsThatAreRefused(t *testing.T) {
	client, err := mongo.Connect(options.Client().ApplyURI("mongodb://127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Disconnect(t.Context())
	for field, o := range map[string]Options{
		"Options.Collections needs":             {Collections: []string{"c"}},
		"Options.OneEach needs":                 {Database: "d", OneEach: true},
		`Options.Database is "a.b"`:             {Database: "a.b"},
		`Options.Collections has an empty item`: {Database: "d", Collections: []string{""}},
		`has an item twice: "c"`:                {Database: "d", Collections: []string{"c", "c"}},
		"Options.FullDocument is":               {FullDocument: "always"},
		"Options.FullDocumentBeforeChange":      {FullDocumentBeforeChange: "updateLookup"},
		"Options.BatchSize":                     {BatchSize: -1},
		"BatchSize is 9999999":                  {BatchSize: 9999999},
		"Options.MaxAwait":                      {MaxAwait: -1},
		"Options.ReopenMin":                     {ReopenMin: -1},
		"Options.ReopenMax (1ms)":               {ReopenMin: time.Second, ReopenMax: time.Millisecond},
	} {
		if _, err := New(client, &o); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := New(nil, nil); err == nil {
		t.Error("no client, no error")
	}
	if s, err := New(client, &Options{ReopenMin: time.Minute}); err != nil || s.opts.ReopenMax != time.Minute || s.opts.BatchSize != 4000 || s.opts.MaxAwait != time.Second {
		t.Errorf("defaults: %+v %v", s.opts, err)
	}
}

// A source says what each of its streams has, as the options have it.
func TestScope(t *testing.T) {
	for _, c := range []struct {
		o      Options
		stream string
		want   rigatoni.Scope
	}{
		{Options{}, "", rigatoni.Scope{FullDocument: "default"}},
		{Options{Database: "shop_*", FullDocument: "updateLookup"}, "", rigatoni.Scope{Database: "shop_*", FullDocument: "updateLookup"}},
		{Options{Database: "shop", Collections: []string{"b", "a*"}, Operations: []string{"insert"}}, "",
			rigatoni.Scope{Database: "shop", Collections: []string{"a*", "b"}, Operations: []string{"insert"}, FullDocument: "default"}},
		{Options{Database: "shop", Collections: []string{"b", "a"}, OneEach: true, FullDocument: "required"}, "b",
			rigatoni.Scope{Database: "shop", Collections: []string{"b"}, FullDocument: "required"}},
	} {
		s, err := newSource(&c.o)
		if err != nil {
			t.Fatal(err)
		}
		got := s.Scope(c.stream)
		if got.Database != c.want.Database || got.FullDocument != c.want.FullDocument ||
			!slices.Equal(got.Collections, c.want.Collections) || !slices.Equal(got.Operations, c.want.Operations) {
			t.Errorf("%+v: got %+v, want %+v", c.o, got, c.want)
		}
	}
}

func TestConnectionStringsThatAreRefused(t *testing.T) {
	for uri, want := range map[string]string{
		"":                                              "not valid",
		"http://x":                                      "not valid",
		"mongodb://u:s3cr3t@word@127.0.0.1/":            "percent-encoded",
		"mongodb://u:s3cr3t:x@127.0.0.1/":               "percent-encoded",
		"mongodb://u:s3cr3t/x@127.0.0.1/":               "percent-encoded",
		"mongodb://u:s3cr3t%zz@127.0.0.1/":              "percent-encoded",
		"mongodb://u:x/s3cr3t@y@127.0.0.1/":             "percent-encoded",
		"mongodb://u:s3cr3t@127.0.0.1:port/":            "not valid: port must be an integer",
		"mongodb://u:s3cr3t@127.0.0.1:99999/":           "not valid: port must be in the range",
		"mongodb://u:s3cr3t@h/?readPreference=first":    "unknown read preference first",
		"mongodb://u:s3cr3t@h/?maxPoolSize=x":           `invalid value for "maxPoolSize": "x"`,
		"mongodb://u:s3cr3t@h/?tlsCAFile=/nope.pem":     "the file that it names for TLS can't be read: open /nope.pem: no such file",
		"mongodb://u:s3cr3t@h?replicaSet=x":             "must have a / before the query",
		"mongodb://u:s3cr3t@h/?foo":                     "invalid option",
		"mongodb://u:s3cr3t@a,b/?directConnection=true": "multiple hosts",
		"mongodb+srv://u:s3cr3t@h:27017/":               "must not include a port",
		"mongodb://u:s3cr3t@h/?authMechanism=FOO":       "invalid auth mechanism",
		"mongodb+srv://u:s3cr3t@host.invalid/":          "mongodb+srv:// can't be looked up",
		"mongodb+srv://host.invalid/":                   "lookup _mongodb._tcp.host.invalid",
		"mongodb://127.0.0.1/?replicaSet=":              "",
		"mongodb://127.0.0.1/?timeoutMS=1500":           "timeoutMS",
		"mongodb://u:s3cr3t@127.0.0.1/?timeoutMS=1500":  "timeoutMS",
	} {
		s, err := Open(uri, nil)
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", uri, err)
			} else if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", uri, err)
		} else if strings.HasPrefix(uri, "mongodb+srv") && strings.Contains(uri, "invalid") && (!errors.As(err, new(*net.DNSError)) || !errors.Is(err, ErrUnreachable)) {
			t.Errorf("%s: no DNSError: %v", uri, err)
		} else if strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: the password is in the error: %v", uri, err)
		}
	}
}
