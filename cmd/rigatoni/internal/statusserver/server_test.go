package statusserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
)

func TestAddresses(t *testing.T) {
	for addr, want := range map[string]string{
		"9600": "127.0.0.1:9600", ":9600": "127.0.0.1:9600", "0": "127.0.0.1:0", "0.0.0.0:9600": "0.0.0.0:9600", "[::]:9600": "[::]:9600",
		"localhost:9600": "localhost:9600", "10.0.0.7:1": "10.0.0.7:1",
	} {
		if got, err := complete(addr); got != want || err != nil {
			t.Errorf("%q: %q, %v, want %q", addr, got, err, want)
		}
	}
	for _, addr := range []string{"", "localhost", "65536", ":65536", "http://localhost:9600", "::1:9600", "-1", "9600/status", "localhost:http"} {
		if got, err := complete(addr); err == nil || !strings.Contains(err.Error(), "must be a port") {
			t.Errorf("%q: %q, %v", addr, got, err)
		}
	}
	l, err := Listen("0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Listen(l.Addr().String()); err == nil || strings.Count(err.Error(), l.Addr().String()) != 1 || !strings.Contains(err.Error(), "in use") {
		t.Errorf("an address in use: %v", err)
	}
}

func newServer(streams ...rigatoni.StreamStatus) *Server {
	s := New(Options{Pipeline: "shop", Version: "rigatoni v0", Limits: limits, Scrub: func(text string) string { return strings.ReplaceAll(text, "s3cr3t", "xxxxx") }})
	if streams != nil {
		s.Watch(func() []rigatoni.StreamStatus { return streams })
	}
	return s
}

func get(t *testing.T, s *Server, target string) (int, string) {
	t.Helper()
	return request(t, s, "GET", target)
}

func request(t *testing.T, s *Server, method, target string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(method, target, nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	if w.Result().Header.Get("Content-Type") == "" && w.Code == http.StatusOK {
		t.Errorf("%s has no content type", target)
	}
	return w.Code, string(body)
}

// live is a stream that is well now: the server takes the clock's time.
func live(name string) rigatoni.StreamStatus {
	s := healthy(name)
	s.Position, s.Checkpoint, s.LastSave = time.Now(), time.Now(), time.Now()
	return s
}

func TestProbes(t *testing.T) {
	well, away := live("orders"), live("users")
	away.Outage, away.OutageErr = time.Now(), errors.New("login to mongodb://me:s3cr3t@db failed")
	for name, c := range map[string]struct {
		server *Server
		code   int
		want   string
	}{
		"ready":           {newServer(well), 200, "ready\n"},
		"not ready":       {newServer(well, away), 503, "not ready\nserver: MongoDB has not answered for 0.0 s: login to mongodb://me:xxxxx@db failed (stream \"users\")\n"},
		"no pipeline yet": {newServer(), 503, "not ready\nstarting: it has not begun\n"},
	} {
		if code, body := get(t, c.server, "/readyz"); code != c.code || body != c.want {
			t.Errorf("%s: %d %s", name, code, body)
		}
		if code, body := get(t, c.server, "/healthz"); code != 200 || body != "ok\n" {
			t.Errorf("%s: the process is unhealthy: %d %s", name, code, body)
		}
	}
}

// A secret is not shown in part either, where a long error is cut.
func TestNoPartOfASecret(t *testing.T) {
	for i := range 12 {
		away := live("")
		away.Outage, away.OutageErr = time.Now(), errors.New(strings.Repeat("x", maxText-i)+"s3cr3t "+strings.Repeat("y", 100*maxText))
		away.LastError, away.LastErrorAt = away.OutageErr, time.Now()
		away.Gaps, away.LastGap.Reason = 1, away.OutageErr.Error()
		s := newServer(away)
		for _, path := range []string{"/", "/status", "/readyz"} {
			if _, body := get(t, s, path); strings.Contains(body, "s3") || strings.Count(body, "xxx") == 0 || strings.Contains(body, "yyyyyyyyyyy") {
				t.Errorf("%s: %s", path, body)
			}
		}
	}
}

// A process whose status can't be had is hung; one that takes a while is not.
func TestHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		hang := make(chan struct{})
		go s.Watch(func() []rigatoni.StreamStatus { <-hang; return []rigatoni.StreamStatus{live("")} })
		time.Sleep(29 * time.Second)
		if code, body := get(t, s, "/healthz"); code != 200 {
			t.Errorf("after 29 s: %d %s", code, body)
		}
		time.Sleep(2 * time.Second)
		if code, body := get(t, s, "/healthz"); code != 503 || !strings.Contains(body, "hung") {
			t.Errorf("after 31 s: %d %s", code, body)
		}
		close(hang)
		synctest.Wait()
		if code, body := get(t, s, "/healthz"); code != 200 {
			t.Errorf("afterwards: %d %s", code, body)
		}
	})
}

func TestOnlyReads(t *testing.T) {
	s := newServer(live(""))
	for _, path := range []string{"/", "/status", "/readyz", "/healthz"} {
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
			if code, _ := request(t, s, method, path); code != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", method, path, code)
			}
		}
		if code, _ := request(t, s, "HEAD", path); code != 200 {
			t.Errorf("HEAD %s: %d", path, code)
		}
	}
	for _, path := range []string{"/nothing", "/status/x", "/metrics", "/debug/pprof/"} {
		if code, _ := get(t, s, path); code != 404 {
			t.Errorf("%s: %d", path, code)
		}
	}
	for _, path := range []string{"/status?limit=1001", "/status?limit=-1", "/status?offset=x", "/?page=x", "/?page=99999999999"} {
		if code, body := get(t, s, path); code != 400 || len(body) > 100 {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

func TestStatusJSON(t *testing.T) {
	full := live("orders")
	full.Interruptions, full.Gaps = map[string]uint64{"network": 2}, 1
	full.LastGap = rigatoni.Gap{From: bson.Timestamp{T: 5, I: 1}, To: bson.Timestamp{T: 9, I: 1}, Reason: "lost", Policy: "now", At: now}
	full.LastError, full.LastErrorAt = errors.New("at redis://:s3cr3t@there"), now
	s := newServer(full, rigatoni.StreamStatus{Stream: "users", Phase: rigatoni.PhaseLeasing, Holder: "other", HeldUntil: now})
	code, body := get(t, s, "/status")
	var doc Document
	if err := json.Unmarshal([]byte(body), &doc); code != 200 || err != nil {
		t.Fatal(code, err, body)
	}
	o, u := doc.Streams[0], doc.Streams[1]
	if doc.Ready || len(doc.Reasons) != 1 || doc.Reasons[0].Code != "lease" || doc.Total != 2 || doc.Pipeline != "shop" {
		t.Errorf("%s", body)
	}
	if o.Lag == nil || *o.Lag > 1 || o.Runway == nil || *o.Runway != 108000 || o.LastGap == nil || o.LastGap.To.T != 9 || o.Interruptions["network"] != 2 || o.LastError != "at redis://:xxxxx@there" {
		t.Errorf("%s", body)
	}
	if u.Lag != nil || u.Runway != nil || u.Position != nil || u.CheckpointAge != nil || u.LastGap != nil || u.LastErrorAt != nil || u.Holder != "other" || u.HeldUntil == nil {
		t.Errorf("what is unknown is not null:\n%s", body)
	}
	if _, body := get(t, s, "/status?stream=users"); strings.Contains(body, `"orders"`) || !strings.Contains(body, `"stream": "users"`) {
		t.Errorf("one stream:\n%s", body)
	}
}

// With 10,000 streams no answer is large, and each comes soon.
func TestManyStreams(t *testing.T) {
	all := make([]rigatoni.StreamStatus, 10000)
	for i := range all {
		all[i] = live(fmt.Sprintf("stream-%04d", i))
		all[i].LastError, all[i].LastErrorAt = errors.New(strings.Repeat("x", 1000)), now
	}
	all[7777].Phase = rigatoni.PhaseOpening
	s := newServer(all...)
	for i := range 10 {
		s.Sample(time.Now().Add(time.Duration(i) * pointTime))
	}
	for path, most := range map[string]int{"/": 500_000, "/?page=200": 500_000, "/?page=100000": 10_000, "/readyz": 1000, "/status": 300_000, "/status?limit=1000": 3_000_000} {
		begin := time.Now()
		code, body := get(t, s, path)
		if path != "/readyz" && code != 200 || len(body) > most {
			t.Errorf("%s: %d, %d bytes", path, code, len(body))
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("%s took %v", path, took)
		}
	}
	_, first := get(t, s, "/")
	_, last := get(t, s, "/?page=200")
	if !strings.Contains(first, "<h2>stream-7777</h2>") || !strings.Contains(first, "<h2>stream-0000</h2>") || strings.Contains(last, "stream-7777</h2>") || !strings.Contains(last, "stream-9999</h2>") {
		t.Error("the stream that is not ready is not first, or the last one not on the last page")
	}
	if _, body := get(t, s, "/status?offset=9999"); strings.Count(body, `"key"`) != 1 || !strings.Contains(body, "stream-9999") {
		t.Errorf("the last one:\n%s", body)
	}
}
