// Package observe holds what operators watch against what the programs tell: a service and
// a bridge with simulated host MCUs are scraped by a real Prometheus, docs/metrics.md is
// made from what they expose, and every query of deploy/ has to return data. It has tests
// only.
package observe
