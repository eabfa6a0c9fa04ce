package otelrigatoni

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

// collected are the metrics of a reader, by "name{attributes}".
func collected(t *testing.T, reader metric.Reader) map[string]float64 {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			if m.Description == "" || m.Unit == "" {
				t.Errorf("%s has the unit %q and the description %q", m.Name, m.Unit, m.Description)
			}
			switch data := m.Data.(type) {
			case metricdata.Gauge[float64]:
				add(all, m.Name, data.DataPoints)
			case metricdata.Sum[float64]:
				if !data.IsMonotonic {
					t.Errorf("%s may go down", m.Name)
				}
				add(all, m.Name, data.DataPoints)
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					all[m.Name+text(p.Attributes.MarshalJSON())] = float64(p.Count)
				}
			default:
				t.Errorf("%s is a %T", m.Name, data)
			}
		}
	}
	return all
}

func add(all map[string]float64, name string, points []metricdata.DataPoint[float64]) {
	for _, p := range points {
		all[name+text(p.Attributes.MarshalJSON())] = p.Value
	}
}

// text writes a set of attributes as {cause=network pipeline=shop}.
func text(json []byte, err error) string {
	r := strings.NewReplacer(`{"Key":"`, "", `","Value":{"Type":"STRING","Value":"`, "=", `"}}`, "", ",", " ", "[", "{", "]", "}")
	return r.Replace(string(json))
}

func newMetrics(t *testing.T) (*Metrics, metric.Reader) {
	t.Helper()
	reader := metric.NewManualReader()
	m, err := New(metric.NewMeterProvider(metric.WithReader(reader)))
	if err != nil {
		t.Fatal(err)
	}
	return m, reader
}

var now = time.Now()

// busy is a status that has something of everything.
func busy(stream string) rigatoni.StreamStatus {
	return rigatoni.StreamStatus{
		Stream: stream, Key: "shop/" + stream, Phase: rigatoni.PhaseStreaming, Owner: "me", Epoch: 4,
		Events: 100, Bytes: 200, Batches: 3, Retries: 4, Dropped: 5, Refused: 7, DeadLetters: 6, InFlight: 8, Saves: 9, SaveErrors: 10, Rewinds: 11,
		Interruptions: map[string]uint64{"network": 12, "failover": 13},
		Position:      now.Add(-time.Minute), LastSave: now.Add(-2 * time.Minute), Runway: time.Hour, RunwayKnown: true,
		StoreFailed: now.Add(-3 * time.Minute), Gaps: 2, LastGap: rigatoni.Gap{At: time.Unix(1794000000, 5e8)},
		Snapshot: &rigatoni.SnapshotStatus{CollectionsTotal: 15, CollectionsDone: 14, Documents: 16, DocumentsEstimated: 17, Bytes: 18, ETA: 19 * time.Second},
	}
}

func TestObserve(t *testing.T) {
	m, reader := newMetrics(t)
	lost := busy("carts") // whose lease another process has taken over
	lost.Phase, lost.Owner, lost.Holder = rigatoni.PhaseLeasing, "", "other"
	streams := []rigatoni.StreamStatus{busy("orders"), {Stream: "users", Key: "shop/users", Phase: rigatoni.PhaseLeasing}, lost}
	stop, err := m.Observe(func() []rigatoni.StreamStatus { return streams })
	if err != nil {
		t.Fatal(err)
	}
	got := collected(t, reader)
	want := map[string]float64{
		"streams": 1, "streams.up": 1, "leases.held": 1, "lease.epoch": 4, "lag": 60, "checkpoint.age": 120, "runway": 3600, "server.down": 0, "store.down": 180,
		"events": 100, "bytes": 200, "batches": 3, "retries": 4, "dropped": 5, "refused": 7, "dead_letters": 6, "in_flight": 8, "saves": 9, "save.errors": 10,
		"rewinds": 11, "gaps": 2, "gap.last.timestamp": 1794000000.5,
		"snapshot.active": 1, "snapshot.documents": 16, "snapshot.documents.estimated": 17, "snapshot.bytes": 18, "snapshot.collections": 15,
		"snapshot.collections.done": 14, "snapshot.eta": 19,
	}
	for name, v := range want {
		key := "rigatoni." + name + "{pipeline=shop stream=orders}"
		if g, ok := got[key]; !ok || g < v || g > v+30 && v > 50 && v < 1e6 || g != v && v <= 50 {
			t.Errorf("%s is %v (%v), want %v", key, g, ok, v)
		}
	}
	for cause, n := range map[string]float64{"network": 12, "failover": 13} {
		if key := "rigatoni.interruptions{cause=" + cause + " pipeline=shop stream=orders}"; got[key] != n {
			t.Errorf("%s is %v, want %v", key, got[key], n)
		}
	}
	// What is unknown is missing, and no 0, which would be the best or the worst.
	for _, name := range []string{"lag", "checkpoint.age", "runway", "lease.epoch", "gap.last.timestamp", "snapshot.documents", "snapshot.eta"} {
		if v, ok := got["rigatoni."+name+"{pipeline=shop stream=users}"]; ok {
			t.Errorf("%s of a stream that has none is %v", name, v)
		}
	}
	for _, name := range []string{"lag", "checkpoint.age", "runway"} {
		if v, ok := got["rigatoni."+name+"{pipeline=shop stream=carts}"]; ok {
			t.Errorf("%s of a stream that another process reads is %v", name, v)
		}
	}
	for _, name := range []string{"streams.up", "leases.held", "events", "retries", "refused", "snapshot.active"} { // a rate needs the 0 before the first
		if v, ok := got["rigatoni."+name+"{pipeline=shop stream=users}"]; !ok || v != 0 {
			t.Errorf("%s of a stream that waits is %v, %v", name, v, ok)
		}
	}
	stop()
	if got := collected(t, reader); len(got) != 0 {
		t.Errorf("after stop: %v", got)
	}
}

// Every definition is in TestObserve's table, or this fails.
func TestEveryDefinitionHasAValue(t *testing.T) {
	for _, d := range definitions {
		if d.name == causes {
			continue
		}
		if _, known := d.value(busy("a"), now); !known {
			t.Errorf("%s has no value", d.name)
		}
	}
}

// Of very many streams the totals are reported, and the worst.
func TestObserveManyStreams(t *testing.T) {
	m, reader := newMetrics(t)
	streams := make([]rigatoni.StreamStatus, MaxStreams+1)
	for i := range streams {
		streams[i] = busy(fmt.Sprint("s", i))
	}
	streams[7].Position, streams[8].Runway, streams[9].RunwayKnown, streams[10].Phase = now.Add(-time.Hour), time.Minute, false, rigatoni.PhaseOpening
	if _, err := m.Observe(func() []rigatoni.StreamStatus { return streams }); err != nil {
		t.Fatal(err)
	}
	got := collected(t, reader)
	for name, least := range map[string]float64{
		"streams": MaxStreams + 1, "streams.up": MaxStreams, "events": 100 * (MaxStreams + 1), "lag": 3600, "runway": 60,
	} {
		if v, ok := got["rigatoni."+name+"{pipeline=shop}"]; !ok || v < least || v > least+30 {
			t.Errorf("%s is %v, %v, want %v", name, v, ok, least)
		}
	}
	if v := got["rigatoni.interruptions{cause=network pipeline=shop}"]; v != 12*(MaxStreams+1) {
		t.Errorf("interruptions: %v", v)
	}
	if len(got) > len(definitions)+1 {
		t.Errorf("%d series: %v", len(got), slices.Sorted(maps.Keys(got)))
	}
}

// With a pipeline that runs: durations come from its hooks, and those that there were
// are still called.
func TestPipeline(t *testing.T) {
	m, reader := newMetrics(t)
	calls := 0
	cfg := rigatoni.Config{
		Name: "shop", Source: rigatonitest.NewSource(rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 1}})), Store: memstore.New(),
		Hooks: rigatoni.Hooks{Delivered: func(rigatoni.Delivery) { calls++ }},
	}
	delivered := make(chan struct{}, 9)
	fail := true
	cfg.Destination = rigatoni.Func(func(context.Context, rigatoni.Event) error {
		if fail {
			fail = false
			return errors.New("away")
		}
		delivered <- struct{}{}
		return nil
	})
	cfg.Hooks = m.Hooks(cfg.Hooks)
	p, err := rigatoni.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop, err := m.Observe(p.Status)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	<-delivered
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	got := collected(t, reader)
	for key, want := range map[string]float64{
		"rigatoni.delivery.duration{outcome=ok pipeline=shop}":    1,
		"rigatoni.delivery.duration{outcome=error pipeline=shop}": 1,
		"rigatoni.save.duration{outcome=ok pipeline=shop}":        2,
		"rigatoni.events{pipeline=shop stream=}":                  1,
		"rigatoni.retries{pipeline=shop stream=}":                 1,
	} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	if calls != 2 {
		t.Errorf("the hook that there was before has been called %d times", calls)
	}
}
