package changestream

import (
	"strings"
	"testing"
	"time"
)

// Check finds what Open refuses, and looks up no name.
func TestCheck(t *testing.T) {
	for _, uri := range []string{
		"mongodb://h", "mongodb://u:p%40@a:1,b:2/db?replicaSet=rs0&timeoutMS=5000", "mongodb+srv://host.invalid", "mongodb+srv://u:p@host.invalid/?srvMaxHosts=2",
		"mongodb+srv://host.invalid?retryWrites=true&srvServiceName=x",
	} {
		if err := Check(uri, nil); err != nil {
			t.Errorf("%s: %v", uri, err)
		}
	}
	for uri, want := range map[string]string{
		"http://h":                                  "not valid",
		"mongodb://u:hunt:er2@h":                    "percent-encoded",
		"mongodb+srv://u:hunt:er2@h.invalid":        "percent-encoded",
		"mongodb+srv://a.invalid,b.invalid":         "takes one host name, without a port",
		"mongodb+srv://u:hunter2@a.invalid:27017":   "takes one host name, without a port",
		"mongodb+srv://a.invalid/?tls=perhaps":      "not valid",
		"mongodb://h/?timeoutMS=1500":               "timeoutMS in the connection string (1.5s)",
		"mongodb+srv://h.invalid?timeoutMS=1500":    "timeoutMS in the connection string (1.5s)",
		"mongodb://h/?tlsCAFile=/nowhere/there.pem": "nowhere",
		"mongodb://h/?readPreference=primaryfirst":  "primaryfirst",
		"mongodb://h:port":                          "port",
	} {
		err := Check(uri, nil)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "er2") {
			t.Errorf("%s: got %v, want %s", uri, err, want)
		}
	}
	err := Check("http://h", &Options{Collections: []string{"a"}, ReopenMin: time.Minute, ReopenMax: time.Second})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"Options.Collections needs", "Options.ReopenMax (1s) is less", "connection string is not valid"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not in:\n%v", want, err)
		}
	}
}
