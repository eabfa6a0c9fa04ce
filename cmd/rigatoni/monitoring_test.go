package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/statusserver"
	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/internal/testing/testserver"
	"github.com/rigatoni-etl/rigatoni/rigatonitest/mongod"
)

// fullStatus has something of everything.
func fullStatus() []rigatoni.StreamStatus {
	return []rigatoni.StreamStatus{{
		Stream: "orders", Key: "shop/orders", Phase: rigatoni.PhaseStreaming, Owner: "me", Epoch: 1, Position: time.Now(), LastSave: time.Now(),
		Runway: time.Hour, RunwayKnown: true, Interruptions: map[string]uint64{"network": 1}, Gaps: 1, LastGap: rigatoni.Gap{At: time.Now()},
		Snapshot: &rigatoni.SnapshotStatus{ETA: time.Minute},
	}}
}

// exported are the types of the metrics that the command exports, with their labels.
func exported(t *testing.T) map[string]string {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	m, err := newMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Observe(fullStatus); err != nil {
		t.Fatal(err)
	}
	hooks := m.Hooks(rigatoni.Hooks{})
	hooks.Delivered(rigatoni.Delivery{Key: "shop/orders"})
	hooks.Saved(rigatoni.Save{Key: "shop/orders"})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, f := range families {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		all[f.GetName()] = strings.ToLower(f.GetType().String()) + " | " + strings.Join(labels, ", ")
	}
	return all
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{"..", ".."}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The table of docs/operations.md has every metric, and no other.
func TestMetricNames(t *testing.T) {
	got, want := map[string]string{}, map[string]string{}
	for name, what := range exported(t) {
		if strings.HasPrefix(name, "rigatoni_") {
			labels := strings.Split(what[strings.Index(what, "| ")+2:], ", ")
			slices.Sort(labels)
			got[name] = what[:strings.Index(what, "|")] + "| " + strings.Join(labels, ", ")
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(rigatoni_\\w+)` \\| (\\w+) \\| ([^|]+) \\|").FindAllStringSubmatch(read(t, "docs", "operations.md"), -1) {
		labels := strings.Split(m[3], ", ")
		slices.Sort(labels)
		want[m[1]] = m[2] + " | " + strings.Join(labels, ", ")
	}
	for name := range maps.Keys(got) {
		if want[name] != got[name] {
			t.Errorf("%s is exported as %q, and documented as %q", name, got[name], want[name])
		}
	}
	for name := range maps.Keys(want) {
		if got[name] == "" {
			t.Errorf("%s is documented, and not exported", name)
		}
	}
}

// The tables of docs/operations.md have every field of /status, and no other.
func TestStatusFields(t *testing.T) {
	text := read(t, "docs", "operations.md")
	text = text[strings.Index(text, "\n## /status"):strings.Index(text, "\n## Alerts")]
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*`) \\| .* \\|$").FindAllStringSubmatch(text, -1) {
		for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(row[1], -1) {
			documented[m[1]] = true
		}
	}
	for _, v := range []any{statusserver.Document{}, statusserver.Stream{}} {
		doc, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := json.Unmarshal(doc, &fields); err != nil {
			t.Fatal(err)
		}
		for name := range fields {
			if !documented[name] {
				t.Errorf("%s is not documented", name)
			}
			delete(fields, name)
		}
	}
	if len(documented) < 40 {
		t.Errorf("only %d fields are documented", len(documented))
	}
}

// metricName finds metrics in the dashboard and the rules.
var metricName = regexp.MustCompile(`\brigatoni_[a-z_]+\b`)

// The dashboard and the alert rules use metrics that there are, and each alert has its
// paragraph.
func TestDashboardAndRulesUseMetricsThatThereAre(t *testing.T) {
	there := exported(t)
	for _, path := range [][]string{{"deploy", "grafana", "rigatoni.json"}, {"deploy", "prometheus", "rigatoni.rules.yaml"}} {
		found := metricName.FindAllString(read(t, path...), -1)
		if len(found) < 10 {
			t.Errorf("%v: only %d metrics", path, len(found))
		}
		for _, name := range found {
			if there[name] == "" && there[strings.TrimSuffix(name, "_bucket")] == "" {
				t.Errorf("%v uses %s", path, name)
			}
		}
	}
	docs := read(t, "docs", "operations.md")
	for _, m := range regexp.MustCompile(`(?m)- alert: (\w+)`).FindAllStringSubmatch(read(t, "deploy", "prometheus", "rigatoni.rules.yaml"), -1) {
		if !strings.Contains(docs, "\n### "+m[1]+"\n") {
			t.Errorf("docs/operations.md has no paragraph about %s", m[1])
		}
	}
}

// tool finds a program that not everybody has. In CI it must be there.
func tool(t *testing.T, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") != "" || os.Getenv("RIGATONI_REQUIRE_SERVERS") != "":
		t.Fatalf("no %s (Debian: apt-get install %s)", name, pkg)
	}
	t.Skipf("no %s on PATH (Debian: apt-get install %s)", name, pkg)
	return ""
}

// promtool accepts the rules, and their tests pass.
func TestAlertRules(t *testing.T) {
	promtool := tool(t, "promtool", "prometheus")
	for _, args := range [][]string{{"check", "rules", "rigatoni.rules.yaml"}, {"test", "rules", "rigatoni.rules_test.yaml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = filepath.Join("..", "..", "deploy", "prometheus")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// served is the status server of a child.
type served struct {
	t   *testing.T
	url string
}

// startServed runs a pipeline with --http, and waits until it serves.
func startServed(t *testing.T, args ...string) (*child, served) {
	t.Helper()
	c := startChild(t, nil, append([]string{"run", "--http", "0"}, args...)...)
	c.await("serving the status")
	line := c.said[len(c.said)-1]
	m := regexp.MustCompile(`http://[\d.:]+/`).FindString(line)
	if m == "" {
		t.Fatalf("no address in %s", line)
	}
	go c.drain()
	return c, served{t, m}
}

// drain reads further messages, so that the child can write them.
func (c *child) drain() {
	for c.stderr.Scan() {
		continue
	}
}

func (s served) get(path string) (int, string) {
	s.t.Helper()
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(s.url + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// turns waits until /readyz has a reason of that code, or is ready for "", and returns
// how long that took.
func (s served) turns(code string, within time.Duration) time.Duration {
	s.t.Helper()
	begin := time.Now()
	for {
		status, body := s.get("readyz")
		if code == "" && status == 200 || code != "" && status == 503 && strings.Contains(body, "\n"+code+": ") {
			return time.Since(begin)
		}
		if time.Since(begin) > within {
			s.t.Fatalf("not %q after %v: %d %s", code, within, status, body)
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
}

// A pipeline on real servers is not ready within ten seconds of each thing that can
// happen to it, and ready again when that is over.
func TestReadinessTurns(t *testing.T) {
	const within = 10 * time.Second
	t.Parallel()
	server := testserver.OwnMongod(t, mongod.Options{})
	node := server.Real.Nodes()[0]
	redis := redisserver.Start(t, nil)
	args := []string{"--source", server.URI, "--database", "shop", "--store", redis.URL(), "--to", "ndjson:out", "--ready-runway", "off", "--lease-wait", "10m"}
	_, s := startServed(t, append(args, "--owner", "first")...)
	s.turns("", deadline)
	if _, err := server.DB.Collection("orders").InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Log("a standby:")
	_, standby := startServed(t, append(args, "--owner", "second")...)
	t.Log("lease", standby.turns("lease", deadline))
	t.Log("MongoDB doesn't answer:")
	must(node.Pause())
	t.Log("server", s.turns("server", within))
	must(node.Resume())
	t.Log("ready", s.turns("", within))
	t.Log("the store doesn't answer:")
	must(redis.Freeze())
	t.Log("store", s.turns("store", within))
	must(redis.Thaw())
	t.Log("ready", s.turns("", within))
	t.Log("MongoDB is gone:")
	must(node.Kill())
	t.Log("server", s.turns("server", within))
	must(node.Start(t.Context()))
	t.Log("ready", s.turns("", deadline))
	t.Log("the store is gone, and with it the lease:")
	must(redis.Stop())
	t.Log("store", s.turns("store", within))
	if code, body := s.get("healthz"); code != 200 {
		t.Errorf("the process is unhealthy: %d %s", code, body)
	}
}

// A runway below the limit, or a checkpoint above it, is a reason; so is a destination
// that stands still.
func TestReadinessLimits(t *testing.T) {
	for age, want := range map[time.Duration]time.Duration{0: time.Minute, -1: 0, time.Hour: time.Hour} {
		s := config.Settings{Monitoring: config.Monitoring{ReadyCheckpointAge: age, ReadyRunway: -1}}
		if l := readyLimits(s); l.CheckpointAge != want || l.Runway != 0 {
			t.Errorf("ready-checkpoint-age %v: %+v", age, l)
		}
	}
	slow := config.Settings{Monitoring: config.Monitoring{ReadyRunway: time.Hour}, Pipeline: rigatoni.Config{IdleInterval: 5 * time.Minute}}
	if l := readyLimits(slow); l.CheckpointAge != 15*time.Minute || l.Runway != time.Hour {
		t.Errorf("a pipeline that saves every five minutes: %+v", l)
	}
	server := testserver.Mongod(t)
	_, s := startServed(t, "--source", server.URI, "--database", server.DB.Name(), "--store", "file:state", "--to", "ndjson:out", "--ready-runway", "50000h")
	t.Log("runway", s.turns("runway", 10*time.Second))
}

// A real Prometheus scrapes a pipeline that runs, every query of the dashboard has an
// answer, and the rules are loaded and evaluated without an error.
func TestPrometheus(t *testing.T) {
	prom := tool(t, "prometheus", "prometheus")
	t.Parallel()
	server := testserver.Mongod(t)
	_, s := startServed(t, "--source", server.URI, "--database", server.DB.Name(), "--store", "file:state", "--to", "ndjson:out", "--name", "shop")
	s.turns("", deadline)
	api := startPrometheus(t, prom, strings.TrimSuffix(strings.TrimPrefix(s.url, "http://"), "/"))
	query := func(expr string) []any {
		var answer struct {
			Status, Error string
			Data          struct{ Result []any }
		}
		_, body := api.post("api/v1/query", "query", expr)
		if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Status != "success" {
			t.Fatalf("%s: %v %s", expr, err, body)
		}
		return answer.Data.Result
	}
	for begin := time.Now(); len(query(`rate(rigatoni_events_total{pipeline="shop"}[30s]) > 0`)) == 0; time.Sleep(50 * time.Millisecond) {
		if _, err := server.DB.Collection("orders").InsertOne(t.Context(), bson.D{}); err != nil {
			t.Fatal(err)
		}
		if time.Since(begin) > deadline {
			t.Fatal("Prometheus never had the events")
		}
	}
	exprs := dashboardQueries(t)
	for _, expr := range exprs {
		got := query(expr)
		// Nothing is copied here.
		rare := strings.Contains(expr, "snapshot") || strings.Contains(expr, "gap") || strings.Contains(expr, "interruptions") || strings.Contains(expr, "changes(")
		if len(got) == 0 && !rare {
			t.Errorf("no answer to %s", expr)
		}
	}
	if len(exprs) < 20 {
		t.Errorf("%d queries in the dashboard", len(exprs))
	}
	if _, body := api.get("api/v1/rules"); strings.Count(body, `"name":"Rigatoni`) < 14 || strings.Contains(body, `"health":"err"`) {
		t.Errorf("the rules: %s", body)
	}
}

// dashboardQueries are the expressions of the dashboard, for one pipeline.
func dashboardQueries(t *testing.T) []string {
	t.Helper()
	var exprs []string
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if expr, ok := v["expr"].(string); ok {
				exprs = append(exprs, strings.NewReplacer("$__rate_interval", "30s", "$pipeline", ".*", "$stream", ".*").Replace(expr))
			}
			for _, k := range slices.Sorted(maps.Keys(v)) {
				walk(v[k])
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	var doc any
	if err := json.Unmarshal([]byte(read(t, "deploy", "grafana", "rigatoni.json")), &doc); err != nil {
		t.Fatal(err)
	}
	walk(doc)
	return exprs
}

// startPrometheus starts one that scrapes target five times a second.
func startPrometheus(t *testing.T, path, target string) served {
	t.Helper()
	dir := t.TempDir()
	rules, err := filepath.Abs(filepath.Join("..", "..", "deploy", "prometheus", "rigatoni.rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 500ms}\nrule_files: [%s]\n"+
		"scrape_configs: [{job_name: rigatoni, static_configs: [{targets: ['%s']}]}]\n", rules, target)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := statusserver.Listen("0") // for a free port
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	var log strings.Builder
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path, "--config.file", file, "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", addr)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Log(log.String())
		}
	})
	api := served{t, "http://" + addr + "/"}
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if code, _ := api.get("-/ready"); code == 200 {
			return api
		}
		if time.Since(begin) > deadline {
			t.Fatal("Prometheus doesn't start")
		}
	}
}

func (s served) post(path, name, value string) (int, string) {
	s.t.Helper()
	resp, err := http.PostForm(s.url+path, map[string][]string{name: {value}})
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}
