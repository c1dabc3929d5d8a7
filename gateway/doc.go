// Package gateway owns everything of the service that faces outward: the
// sessions with devices over MQTT (Sessions: it decodes what devices say, hands
// it to the orchestrator and publishes what the orchestrator decides) and the
// HTTP API (API, Server, Tokens).
//
// It decides no rollout. It never imports broker, bridge or a store; it speaks
// to any MQTT 5 broker by URL. paho and huma are imported here and, of the
// service, nowhere else. huma on the standard mux was chosen for the API because
// it derives OpenAPI 3.1, validation and RFC 9457 problems from the same Go
// types, works with net/http's own router, and leaves raw requests within reach
// for streaming; schemas/openapi.yaml is generated from it.
//
// Goroutines: paho's read goroutines only queue (lanes.go); the workers of
// Sessions.Run call the orchestrator; an HTTP request stays on the goroutine of
// its connection. All state is behind the mutex of the type that holds it.
package gateway
