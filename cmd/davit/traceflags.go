package main

import (
	"os"

	"github.com/spf13/cobra"

	"davit/internal/app"
)

// envTraces is what every program with OpenTelemetry takes the collector's address
// from.
const envTraces = "OTEL_EXPORTER_OTLP_ENDPOINT"

func addTraceFlags(cmd *cobra.Command, o *app.TraceOptions) {
	f := cmd.Flags()
	f.StringVar(&o.Endpoint, "trace-endpoint", os.Getenv(envTraces), "address of an OTLP collector over HTTP to which traces of updates go, such as http://127.0.0.1:4318 (default none, or "+envTraces+")")
	f.Float64Var(&o.Ratio, "trace-ratio", 1, "share of devices of a job, and of HTTP requests, that is traced, 0 to 1")
}
