package changestream

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
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

func TestConnectionStringsThatAreRefused(t *testing.T) {
	for uri, want := range map[string]string{
		"":                                             "not valid",
		"http://x":                                     "not valid",
		"mongodb://u:s3cr3t@word@127.0.0.1/":           "percent-encoded",
		"mongodb://u:s3cr3t:x@127.0.0.1/":              "percent-encoded",
		"mongodb://u:s3cr3t@127.0.0.1:port/":           "percent-encoded",
		"mongodb+srv://u:s3cr3t@host.invalid/":         "mongodb+srv:// can't be looked up",
		"mongodb+srv://host.invalid/":                  "lookup _mongodb._tcp.host.invalid",
		"mongodb://127.0.0.1/?replicaSet=":             "",
		"mongodb://127.0.0.1/?timeoutMS=1500":          "timeoutMS",
		"mongodb://u:s3cr3t@127.0.0.1/?timeoutMS=1500": "timeoutMS",
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
		} else if strings.HasPrefix(uri, "mongodb+srv") && !errors.As(err, new(*net.DNSError)) {
			t.Errorf("%s: no DNSError: %v", uri, err)
		} else if strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: the password is in the error: %v", uri, err)
		}
	}
}
