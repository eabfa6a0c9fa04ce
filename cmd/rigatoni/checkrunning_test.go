package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestCheckRunning(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := free.Addr().String()
	free.Close()
	for name, c := range map[string]struct {
		status int
		body   string
		code   int
		says   string
	}{
		"ready":     {200, "ready\n", exitOK, ""},
		"not ready": {503, "not ready\nstore: the store has been failing for 3 s\nrunway: short\n", exitFailure, "the pipeline is not ready\n  store: the store has been failing for 3 s\n  runway: short"},
		"another":   {200, "<html>", exitFailure, "is no status page of rigatoni: it answers 200 OK"},
		"redirect":  {302, "", exitFailure, "is no status page of rigatoni: it answers 302 Found"},
		"nobody":    {0, "", exitUnreachable, "no pipeline answers at http://127.0.0.1:"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/readyz" {
				t.Errorf("asked for %s", r.URL)
			}
			w.WriteHeader(c.status)
			fmt.Fprint(w, c.body)
		}))
		addr := strings.TrimPrefix(server.URL, "http://")
		if c.status == 0 {
			addr = nobody
		}
		var out, errs bytes.Buffer
		code := run(t.Context(), world{
			args:   []string{"check", "--running", "--http", strings.Replace(addr, "127.0.0.1", "0.0.0.0", 1)},
			stdout: &out, stderr: &errs, env: noEnv,
		})
		if code != c.code || !strings.Contains(errs.String(), c.says) || (out.String() == "ready\n") != (c.code == exitOK) {
			t.Errorf("%s: %d, %q, %q", name, code, out.String(), errs.String())
		}
		server.Close()
	}
	for addr, want := range map[string]string{"9600": "127.0.0.1:9600", ":9600": "127.0.0.1:9600", "[::]:1": "[::1]:1", "0.0.0.0:1": "127.0.0.1:1", "10.0.0.1:1": "10.0.0.1:1", "host:1": "host:1"} {
		if got := reachable(addr); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	var errs bytes.Buffer
	if code := run(t.Context(), world{args: []string{"check", "--running"}, stdout: &errs, stderr: &errs, env: noEnv}); code != exitUsage {
		t.Errorf("without an address: %d, %s", code, &errs)
	}
}

func noEnv(string) (string, bool) { return "", false }
