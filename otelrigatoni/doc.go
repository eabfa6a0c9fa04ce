// Package otelrigatoni reports what a pipeline does as OpenTelemetry metrics:
//
//	metrics, err := otelrigatoni.New(otel.GetMeterProvider())
//	cfg.Hooks = metrics.Hooks(cfg.Hooks)       // before rigatoni.New
//	stop, err := metrics.Observe(p.Status)     // after it
//
// The metrics are in docs/operations.md, by the names that they have in Prometheus:
// rigatoni.checkpoint.age, in seconds, is rigatoni_checkpoint_age_seconds there. Each
// has the attribute pipeline, and all but the durations have stream, which is empty
// for a source with one stream.
//
// A pipeline of more than [MaxStreams] streams is reported as a whole, without the
// attribute stream: counts are sums, and what is worst of lag, checkpoint age and
// runway stands for all.
package otelrigatoni
