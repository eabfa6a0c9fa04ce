module github.com/rigatoni-etl/rigatoni/otelrigatoni

go 1.26.0

require (
	github.com/rigatoni-etl/rigatoni v0.1.0
	go.opentelemetry.io/otel v1.47.0
	go.opentelemetry.io/otel/metric v1.47.0
	go.opentelemetry.io/otel/sdk/metric v1.47.0
)
