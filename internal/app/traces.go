package app

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"davit/internal/trace"
	"davit/internal/tracing"
)

// TraceOptions say where spans go.
type TraceOptions struct {
	// Endpoint is an OTLP collector's address over HTTP, such as http://127.0.0.1:4318;
	// empty traces nothing.
	Endpoint string
	// Ratio is the share of executions and requests that is traced, 0 to 1.
	Ratio float64
}

// Validate checks what can be checked without touching anything.
func (o TraceOptions) Validate() error {
	var wrong []error
	if !(o.Ratio >= 0 && o.Ratio <= 1) {
		wrong = append(wrong, fmt.Errorf("--trace-ratio is %v; write a share from 0 to 1", o.Ratio))
	}
	if o.Endpoint != "" {
		if err := tracing.CheckEndpoint(o.Endpoint); err != nil {
			wrong = append(wrong, fmt.Errorf("--trace-endpoint: %w", err))
		}
	}
	return errors.Join(wrong...)
}

// tracer makes what the options say: nil for nothing. cleanup gets its end. What became
// of spans is in the registry either way.
func (o TraceOptions) tracer(service string, log *slog.Logger, r prometheus.Registerer, cleanup *closers) (*trace.Tracer, error) {
	metrics := tracing.NewMetrics(r)
	if o.Endpoint == "" {
		return nil, nil
	}
	host, _ := os.Hostname() // a machine without a name has spans all the same
	exporter, err := tracing.New(tracing.Options{Endpoint: o.Endpoint, Service: service, Version: ReadBuild().Version, Instance: fmt.Sprintf("%s/%d", host, os.Getpid()), Log: log.With("part", "traces"), Metrics: metrics})
	if err != nil {
		return nil, err
	}
	cleanup.add("export of traces", exporter.Close)
	return trace.New(exporter, o.Ratio), nil
}
