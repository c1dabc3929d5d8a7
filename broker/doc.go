// Package broker owns the embedded MQTT broker: listeners, authentication,
// access control derived from the topics of package schemas, and the
// credentials file. It knows nothing of jobs and imports no other part of
// davit but schemas and internal/durable. No other package imports mochi.
//
// mochi-mqtt is used as an engine: it decodes and encodes packets, processes
// them, and keeps the retained messages and the service's subscriptions. Everything around it is ours, because mochi 2.7.9 has defects
// that have to be kept out of reach (defects_test.go shows each of them on
// mochi alone, and its absence here):
//
//   - Connections come from our listeners and our conn, whose writes never
//     block: bytes that the socket does not take at once wait in a bounded
//     buffer, and a reader that lets it overflow with what it did not ask for is
//     disconnected. So nobody waits for a slow, stalled or vanished client.
//
//   - A session ends with its connection. The broker keeps no storage, so it
//     could not hold a session over a restart anyway, and the contract does
//     not need one: offers are retained, a status is repeated until it is
//     acknowledged. CONNACK says so (session present 0; MQTT 5: session
//     expiry interval 0). A client may ask for either kind of start.
//
//   - A client that takes over a connection waits until the old one has
//     ended completely, will message included (sessions.go).
//
//   - QoS 1 towards clients is ours (outbox.go): mochi hands out every message
//     as QoS 0 and never keeps one in flight. Packet ids, the client's Receive
//     Maximum and the PUBACKs are accounted for per connection. Nothing is
//     re-sent within a connection (MQTT 5, 4.4), and none outlives it.
//
//   - mochi's event loop is not started: there are no $SYS topics, sessions
//     or delayed messages for it to look after. A message expiry interval is
//     not acted upon; the contract's messages carry their own times.
//
//   - When the last connection of a principal has ended, the broker says so
//     itself on the presence topic of each of its devices (presence.go).
//
//   - Chunks go past mochi (session.go, shortway.go): a fetch is handed to
//     Config.OnFetch with the Session that asks, one with nothing unusual about it
//     before mochi reads it and within the wait for it (plainfetch.go, reading.go), and
//     what Session.Send is given
//     leaves in one vectored write, headers from a scratch buffer and data from
//     the image's memory, or, where chunks are large, from its file without a copy
//     (sendfile_linux.go). The packet that a socket takes only a part of (it is
//     cut) is completed by reference before anything else; what mochi writes
//     follows it, and the next chunks come after that. Over TLS and WebSocket, and
//     for images without a mapping, chunks are copied, one bounded buffer at a
//     time.
//
//   - A client is alive as long as it keeps to its keep alive, which every
//     connection has, and no longer: mochi's deadline for the next packet is the
//     only one. Writing has none, so a client may read as slowly as it likes, or
//     nothing for a while. It costs one chunk, its outbox, and what is in the
//     kernel. A peer that has vanished is silent too, and TCP gives it up.
//
//   - Client ids are scoped by principal, so no principal can take over a
//     session of another whatever it calls itself.
//
//   - Thousands that connect at once wait for their turn, or are told when to
//     come back (admission.go); sockets that say nothing are bounded (pending.go),
//     and so is the rate at which wrong passwords are answered (failures.go); who
//     opens more sockets instead of waiting is not heard (tarpit.go).
//
//   - What each principal sends is metered, over all of its connections: who is too
//     fast is read more slowly, then disconnected (meter.go).
//
//   - Where a listener goes by a ClientTrust, the client certificate is the login
//     (certificate.go). Its files are looked at by each handshake and once a second
//     (clienttrust.go, crl.go); sessions whose certificate is not good any more end. A device
//     in quarantine is in nobody's list (quarantine.go).
//
//   - TLS handshakes take turns while they are reckoned, and not while they wait for
//     the client (handshake.go).
//
//   - An idle connection is cheap: its read loop is ours and keeps no packet and
//     no buffer (attach.go, reading.go), and what a module subscribes to is one
//     entry of a map (index.go).
//
// QoS 2, topic aliases and enhanced authentication are not offered.
//
// Goroutines: each connection has one, its read loop, and while bytes wait for
// the socket one that writes them and then calls those who want to send more; a
// connection of the service has mochi's write loop as well. A conn's outbox and
// cut packet are behind its mutex; the registry of sessions, the index, the
// admission and the credentials are each behind theirs. Hooks run on the read loop of the connection that they
// are called for, except delivery, which runs on the publisher's.
package broker
