package otelrigatoni

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/rigatoni-etl/rigatoni"
)

// MaxStreams is how many streams of a pipeline are reported one by one.
const MaxStreams = 1000

// Metrics reports pipelines to a meter provider. It is safe for concurrent use, and
// may serve several pipelines, which differ by their names.
type Metrics struct {
	meter          metric.Meter
	delivery, save metric.Float64Histogram
	observables    []metric.Float64Observable // of definitions
}

// buckets are those of the durations, in seconds.
var buckets = metric.WithExplicitBucketBoundaries(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

// New makes the instruments.
func New(provider metric.MeterProvider) (*Metrics, error) {
	m := &Metrics{meter: provider.Meter("github.com/rigatoni-etl/rigatoni/otelrigatoni")}
	var errs [2]error
	m.delivery, errs[0] = m.meter.Float64Histogram("rigatoni.delivery.duration", metric.WithUnit("s"),
		metric.WithDescription("How long an attempt to deliver a batch took, by outcome: ok or error."), buckets)
	m.save, errs[1] = m.meter.Float64Histogram("rigatoni.save.duration", metric.WithUnit("s"),
		metric.WithDescription("How long an attempt to save a checkpoint took, by outcome: ok or error."), buckets)
	err := errors.Join(errs[:]...)
	for _, d := range definitions {
		o, oerr := d.instrument(m.meter)
		m.observables, err = append(m.observables, o), errors.Join(err, oerr)
	}
	if err != nil {
		return nil, fmt.Errorf("otelrigatoni: the instruments can't be made: %w", err)
	}
	return m, nil
}

// Hooks returns hooks that record how long deliveries and saves take, and then call
// those of next.
func (m *Metrics) Hooks(next rigatoni.Hooks) rigatoni.Hooks {
	delivered, saved := next.Delivered, next.Saved
	next.Delivered = func(d rigatoni.Delivery) {
		m.delivery.Record(context.Background(), d.Took.Seconds(), metric.WithAttributeSet(outcome(d.Key, d.Err)))
		if delivered != nil {
			delivered(d)
		}
	}
	next.Saved = func(s rigatoni.Save) {
		m.save.Record(context.Background(), s.Took.Seconds(), metric.WithAttributeSet(outcome(s.Key, s.Err)))
		if saved != nil {
			saved(s)
		}
	}
	return next
}

func outcome(key string, err error) attribute.Set {
	text := "ok"
	if err != nil {
		text = "error"
	}
	return attribute.NewSet(pipelineOf(key), attribute.String("outcome", text))
}

// pipelineOf is the pipeline of a key: what stands before the first slash.
func pipelineOf(key string) attribute.KeyValue {
	name, _, _ := strings.Cut(key, "/")
	return attribute.String("pipeline", name)
}

// Observe reports everything else, read from status (a pipeline's Status) each time
// that the metrics are collected, until stop is called.
func (m *Metrics) Observe(status func() []rigatoni.StreamStatus) (stop func(), err error) {
	all := make([]metric.Observable, len(m.observables))
	for i, o := range m.observables {
		all[i] = o
	}
	r, err := m.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		m.observe(o, status(), time.Now())
		return nil
	}, all...)
	if err != nil {
		return nil, fmt.Errorf("otelrigatoni: %w", err)
	}
	return func() { _ = r.Unregister() }, nil // it has no error to report
}

func (m *Metrics) observe(o metric.Observer, streams []rigatoni.StreamStatus, now time.Time) {
	if len(streams) > MaxStreams {
		m.observeTogether(o, streams, now)
		return
	}
	for _, s := range streams {
		of := metric.WithAttributes(pipelineOf(s.Key), attribute.String("stream", s.Stream))
		for i, d := range definitions {
			if d.name == causes {
				observeCauses(o, m.observables[i], s.Interruptions, of)
			} else if v, known := d.value(s, now); known {
				o.ObserveFloat64(m.observables[i], v, of)
			}
		}
	}
}

func (m *Metrics) observeTogether(o metric.Observer, streams []rigatoni.StreamStatus, now time.Time) {
	of := metric.WithAttributes(pipelineOf(streams[0].Key))
	for i, d := range definitions {
		switch {
		case d.name == causes:
			sum := map[string]uint64{}
			for _, s := range streams {
				for cause, n := range s.Interruptions {
					sum[cause] += n
				}
			}
			observeCauses(o, m.observables[i], sum, of)
		case d.kind != single:
			if v, known := d.together(streams, now); known {
				o.ObserveFloat64(m.observables[i], v, of)
			}
		}
	}
}

// together is the value that stands for all streams.
func (d definition) together(streams []rigatoni.StreamStatus, now time.Time) (sum float64, known bool) {
	for _, s := range streams {
		if v, ok := d.value(s, now); ok {
			sum, known = d.merge(sum, v, !known), true
		}
	}
	return sum, known
}

func observeCauses(o metric.Observer, instrument metric.Float64Observable, counts map[string]uint64, of metric.MeasurementOption) {
	for cause, n := range counts {
		o.ObserveFloat64(instrument, float64(n), of, metric.WithAttributes(attribute.String("cause", cause)))
	}
}
