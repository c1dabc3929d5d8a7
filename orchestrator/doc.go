// Package orchestrator owns image types, device types, images, devices,
// groups, jobs and executions: the pure rules (Step), the records and their
// indexes, the rollout loop and the streamer. It consumes Store, Blobs and
// Publisher and knows nothing of MQTT, HTTP, bbolt or Prometheus.
package orchestrator
