package otelrigatoni_test

import (
	"context"
	"fmt"
	"log"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/rigatoni-etl/rigatoni"
	"github.com/rigatoni-etl/rigatoni/otelrigatoni"
	"github.com/rigatoni-etl/rigatoni/rigatonitest"
	"github.com/rigatoni-etl/rigatoni/stores/memstore"
)

// A program with OpenTelemetry has a provider already, with an exporter of its own.
func Example() {
	reader := metric.NewManualReader()
	provider := metric.NewMeterProvider(metric.WithReader(reader))

	delivered := make(chan struct{})
	cfg := rigatoni.Config{
		Name:        "shop",
		Source:      rigatonitest.NewSource(rigatonitest.Insert("shop.orders", bson.D{{Key: "_id", Value: 1}})),
		Store:       memstore.New(),
		Destination: rigatoni.Func(func(context.Context, rigatoni.Event) error { close(delivered); return nil }),
	}
	metrics, err := otelrigatoni.New(provider)
	if err != nil {
		log.Fatal(err)
	}
	cfg.Hooks = metrics.Hooks(cfg.Hooks)
	p, err := rigatoni.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	stop, err := metrics.Observe(p.Status)
	if err != nil {
		log.Fatal(err)
	}
	defer stop()

	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-delivered; cancel() }()
	if err := p.Run(ctx); err != nil {
		log.Fatal(err)
	}
	var collected metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &collected); err != nil {
		log.Fatal(err)
	}
	for _, m := range collected.ScopeMetrics[0].Metrics {
		if sum, ok := m.Data.(metricdata.Sum[float64]); ok && m.Name == "rigatoni.events" {
			fmt.Println(m.Name, sum.DataPoints[0].Value)
		}
	}
	// Output: rigatoni.events 1
}
