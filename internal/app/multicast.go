package app

import (
	"context"

	"davit/broker"
	"davit/orchestrator"
	"davit/schemas"
)

// multicaster carries the shared streams of images: the embedded broker to its own
// connections, or the gateway, by publishing, to another broker.
func (s *Server) multicaster() orchestrator.Multicaster {
	if s.bus.embedded == nil {
		return s.sessions
	}
	return multicast{s.bus.embedded}
}

// multicast is the embedded broker as the orchestrator sees it.
type multicast struct{ broker *broker.Broker }

var _ orchestrator.Multicaster = multicast{}

// Multicast implements orchestrator.Multicaster.
func (m multicast) Multicast(_ context.Context, sha256 string, image schemas.ImageBytes, chunks []schemas.Chunk, to []orchestrator.Session) (sent int) {
	sessions := make([]*broker.Session, 0, len(to))
	for _, s := range to {
		if own, ok := s.(*broker.Session); ok {
			sessions = append(sessions, own)
		}
	}
	return m.broker.Multicast(schemas.StreamTopic(sha256), image, chunks, sessions)
}
