package broker

// The values of labels that are not constants of their own elsewhere.
const (
	actionPublish   = "publish"
	actionSubscribe = "subscribe"
	actionWill      = "will"
)

// connectRefusals are the reasons for which a connection is refused; a test holds the list
// against the code.
func connectRefusals() []string {
	return []string{
		"authentication", "authentication_method", "busy", "client_id", "connect_timeout", "crowded", "evicted", "malformed",
		"not_mqtt", "not_ready", "tls", "too_many_connections", "too_many_sockets", "websocket", "will",
		string(limitConnects), string(refusedUser),
		string(verdictUnknown), string(verdictOff), string(verdictIdentity), string(verdictShut), string(verdictClaim),
	}
}

// verdicts are the outcomes of an authentication that failed.
func verdicts() []verdict {
	return []verdict{verdictUnknown, verdictPassword, verdictMissing, verdictOff, verdictIdentity, verdictShut, verdictClaim}
}

func refusals() []refusal {
	return []refusal{
		refusedTopic, refusedDevice, refusedSide, refusedRetain, refusedQoS, refusedSize, refusedRevoked, refusedWildcard, refusedStreams,
		refusedLength, refusedUser, refusedFilters, refusedKind, refusedUnheard, refusedRate,
	}
}

func untrustedReasons() []string {
	return []string{
		untrustedNone, untrustedCA, untrustedExpired, untrustedUsage, untrustedInvalid, untrustedRevoked,
		untrustedNoCRL, untrustedBadCRL, untrustedOldCRL, untrustedForgedCRL,
	}
}

// begin makes the series whose labels are known beforehand, so that a rate over them sees
// the first event.
func (m *Metrics) begin() {
	for _, t := range []Transport{TCP, WebSocket} {
		m.connections.WithLabelValues(string(t))
		m.connects.WithLabelValues(string(t))
	}
	for _, r := range connectRefusals() {
		m.refusals.WithLabelValues(r)
	}
	for _, v := range verdicts() {
		m.authFailures.WithLabelValues(string(v))
	}
	for _, r := range refusals() {
		for _, action := range []string{actionPublish, actionSubscribe, actionWill} {
			m.aclRefusals.WithLabelValues(action, string(r))
		}
		if r.limit() {
			m.limits.WithLabelValues(string(r))
		}
	}
	for _, l := range []limit{limitPackets, limitMessages, limitBytes, limitConnects, limitPacketSize} {
		m.limits.WithLabelValues(string(l))
	}
	for _, r := range untrustedReasons() {
		m.certRefusals.WithLabelValues(r)
		m.certEnds.WithLabelValues(r)
	}
	for _, r := range []string{chunkImage, chunkEnded, chunkNotSubscribed, chunkTooLarge} {
		m.chunks.refused.WithLabelValues(r)
	}
}
