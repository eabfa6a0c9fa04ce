package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/config"
	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/statusserver"
	"github.com/rigatoni-etl/rigatoni/otelrigatoni"
)

// monitoring is what --http serves. A nil one serves nothing.
type monitoring struct {
	server  *statusserver.Server
	metrics *otelrigatoni.Metrics
}

// startMonitoring begins to serve at the address of --http, if there is one. It does
// so before anything is opened: a server or store that doesn't answer shows, too.
func startMonitoring(s config.Settings, log *slog.Logger) (*monitoring, error) {
	if s.Monitoring.HTTP == "" {
		return nil, nil
	}
	listener, err := statusserver.Listen(s.Monitoring.HTTP)
	switch {
	case errors.Is(err, statusserver.ErrAddress):
		return nil, usageError{fmt.Errorf("--http: %w", err)}
	case err != nil:
		return nil, fmt.Errorf("--http: %w", err)
	}
	registry := prometheus.NewRegistry()
	metrics, err := newMetrics(registry)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	m := &monitoring{metrics: metrics, server: statusserver.Serve(listener, statusserver.Options{
		Version: versionLine(buildInfo()), Pipeline: s.Pipeline.Name, Limits: readyLimits(s), Scrub: s.Scrubber().Text, Logger: log,
		Metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}),
	})}
	log.Info("serving the status", "url", "http://"+listener.Addr().String()+"/")
	return m, nil
}

// newMetrics makes a pipeline's metrics, and registers them with those of the process.
func newMetrics(registry *prometheus.Registry) (*otelrigatoni.Metrics, error) {
	reader, err := exporter.New(exporter.WithRegisterer(registry), exporter.WithoutScopeInfo(), exporter.WithoutTargetInfo())
	if err != nil {
		return nil, fmt.Errorf("the metrics can't be exported: %w", err)
	}
	registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "rigatoni_build_info", Help: "The version of rigatoni; always 1.", ConstLabels: prometheus.Labels{"version": cmp.Or(buildInfo().Main.Version, "(devel)")},
		}, func() float64 { return 1 }),
	)
	return otelrigatoni.New(metric.NewMeterProvider(metric.WithReader(reader)))
}

// readyLimits are what the pipeline has to keep to be ready.
func readyLimits(s config.Settings) statusserver.Limits {
	const (
		usualAge = time.Minute
		usualGap = 10 * time.Second // Config.IdleInterval's default
	)
	l := statusserver.Limits{CheckpointAge: max(0, s.Monitoring.ReadyCheckpointAge), Runway: max(0, s.Monitoring.ReadyRunway)}
	if s.Monitoring.ReadyCheckpointAge == 0 {
		l.CheckpointAge = max(usualAge, 3*max(usualGap, s.Pipeline.IdleInterval, s.Pipeline.SaveInterval))
	}
	return l
}

// hooks adds what the metrics need to a pipeline's hooks.
func (m *monitoring) hooks(h rigatoni.Hooks) rigatoni.Hooks {
	if m == nil {
		return h
	}
	return m.metrics.Hooks(h)
}

// watch shows a pipeline.
func (m *monitoring) watch(p *rigatoni.Pipeline) error {
	if m == nil {
		return nil
	}
	m.server.Watch(p.Status)
	_, err := m.metrics.Observe(p.Status) // until the process ends
	return err
}

func (m *monitoring) close() {
	if m != nil {
		m.server.Close()
	}
}
