package logevent

// This file: the broker, the HTTP API and who uses them.

// The embedded broker.
const (
	// An MQTT listener is open.
	BrokerListening Event = "broker.listening"
	// A client reads too slowly; its connection is ended.
	// To do: Look at the client's network.
	BrokerSlowReader Event = "broker.slow_reader"
	// A client goes over its limits: it is slowed down, then disconnected.
	// To do: Look at the client's software, or raise --message-rate.
	BrokerLimited Event = "broker.limited"
	// A client published or subscribed where it may not.
	// To do: Give the device to the bridge (davit bridge add), or look for who uses its password.
	BrokerACLRefused Event = "broker.acl_refused"
	// A CONNECT was refused; reason says why.
	// To do: Correct user name and password, or the certificate.
	BrokerConnectRefused Event = "broker.connect_refused"
	// So many more CONNECTs were refused in the last minute than were told of one by one.
	// To do: Look at those that were told; davit_broker_connect_refusals_total has all of them by reason.
	BrokerConnectsRefused Event = "broker.connects_refused"
	// A client is connected.
	BrokerConnected Event = "broker.connected"
	// A client's connection has ended.
	BrokerDisconnected Event = "broker.disconnected"
	// Connections cannot be accepted for now; it is tried again.
	// To do: Look at the limit of open files.
	BrokerAcceptFailed Event = "broker.accept_failed"
	// Connections of an address are closed unheard, because too many with wrong passwords came from it.
	// To do: Look for who guesses there.
	BrokerAddressUnheard Event = "broker.address_unheard"
	// Attempts to connect from such an address cannot be dropped by the system; they are accepted and closed.
	// To do: Nothing: it costs more processor time, and is no fault.
	BrokerNoSieve Event = "broker.no_sieve"
	// Sockets that do not say CONNECT are closed to make room for others.
	// To do: If it lasts, look for where they come from.
	BrokerPendingFull Event = "broker.pending_full"
	// A socket said no proper CONNECT and is closed.
	BrokerNoConnect Event = "broker.no_connect"
	// A packet made the broker's library panic; its connection is ended, the broker goes on.
	// To do: A fault: report it with the stack.
	BrokerPanic Event = "broker.panic"
	// Clients are asked to come back later, because too many connect at once.
	// To do: Nothing: they come back by themselves.
	BrokerBusy Event = "broker.busy"
	// The TLS handshake of a client failed.
	// To do: Look at the client's certificates and clock.
	TLSHandshakeFailed Event = "broker.tls_handshake_failed"
	// A client's certificate is not believed.
	// To do: Give the client a new certificate; reason says what is wrong with the old.
	CertificateRefused Event = "broker.certificate_refused"
	// A session ended because its certificate is not good any more.
	// To do: Give the client a new certificate.
	CertificateEnded Event = "broker.certificate_ended"
	// Client certificates are refused until the files of authorities and revocation lists are mended; sessions go on.
	// To do: Mend the file that the error names.
	CertificatesUnusable Event = "broker.certificates_unusable"
	// Authorities and revocation lists for client certificates have been read.
	CertificatesInForce Event = "broker.certificates_in_force"
	// A revocation list ends within a day; after that, certificates of its authority are refused.
	// To do: Publish a new list.
	CRLEndsSoon Event = "broker.crl_ends_soon"
	// A revocation list has ended: certificates of its authority are refused.
	// To do: Publish a new list.
	CRLEnded Event = "broker.crl_ended"
	// A chunk could not be completed because the image cannot be read from the disk; the connection is ended.
	// To do: Look for errors of the disk, and run davit check.
	ImageUnreadable Event = "broker.image_unreadable"
	// A claim could not be looked up.
	// To do: Look at the error; disk and store first.
	ClaimLookupFailed Event = "broker.claim_lookup_failed"
	// A message of the broker's own cannot be encoded and is not sent.
	// To do: A fault of davit: report it with the error.
	BrokerMessageInvalid Event = "broker.message_invalid"
)

// The service's connections to the broker.
const (
	// The service is connected to the MQTT broker.
	LinkUp Event = "link.up"
	// The connection to the MQTT broker failed; it is made again.
	// To do: Look at the broker.
	LinkFailed Event = "link.failed"
	// The MQTT broker ended the connection.
	// To do: Look at the broker's log for the reason code.
	LinkEnded Event = "link.ended"
	// The MQTT broker cannot be reached; it is tried again.
	// To do: Look at address, name and password of the broker.
	LinkDown Event = "link.down"
	// The broker refuses the service's subscriptions; it is tried again.
	// To do: Give the service's user full rights on davit/v1/#.
	LinkSubscribeFailed Event = "link.subscribe_failed"
)

// Passwords and claims of modules.
const (
	// A module has become a device.
	ClaimGranted Event = "claim.granted"
	// A claim was refused.
	// To do: Look at the reason; a claim may have ended or be used up.
	ClaimRefused Event = "claim.refused"
	// A device could not be claimed because of a fault of the service's own.
	// To do: Look at the error; disk and store first.
	ClaimFailed Event = "claim.failed"
	// An answer of the service's own would break the contract and is not sent.
	// To do: A fault of davit: report it with the error.
	AnswerInvalid Event = "claim.answer_invalid"
	// A claiming module received an answer that is not meant for it.
	ClaimAnswerInvalid Event = "claim.answer_unknown"
	// The service asks a claiming module for patience.
	// To do: Look at the reason.
	ClaimDelayed Event = "claim.delayed"
	// A device or a bridge is given another password.
	PasswordGiven Event = "password.given"
	// The password of a device or a bridge could not be changed.
	// To do: Look at the error; disk and store first.
	PasswordNotChanged Event = "password.not_changed"
	// A bridge has another password and connects with it.
	PasswordTaken Event = "password.taken"
	// A bridge could not write its new password and goes on with the present one.
	// To do: Look at the bridge's disk and the file's permissions.
	PasswordNotKept Event = "password.not_kept"
	// The service does not change the bridge's password.
	// To do: Look at the reason.
	PasswordRefused Event = "password.refused"
	// A bridge's question for another password was not sent; it is tried again.
	PasswordNotAsked Event = "password.not_asked"
	// A message about the bridge's password could not be read.
	// To do: Compare the versions of service and bridge.
	PasswordWordMalformed Event = "password.word_malformed"
	// The change of the password is not ended on disk; it is at the next login.
	// To do: Look at the bridge's disk.
	PasswordChangeOpen Event = "password.change_open"
)

// The HTTP API and the console.
const (
	// A request was answered.
	RequestAnswered Event = "http.answered"
	// A request failed because of a fault of the service's own.
	// To do: Look at the error; the client was told the same request id.
	RequestFailed Event = "http.failed"
	// The handler of a request panicked; the service goes on.
	// To do: A fault: report it with the stack.
	RequestPanicked Event = "http.panic"
	// Requests over a rate or a count are refused.
	// To do: Slow the client down, or raise --api-rate.
	RequestsLimited Event = "http.limited"
	// Connections are closed because there are too many.
	// To do: Look for who holds them.
	ConnectionsLimited Event = "http.connections_limited"
	// Requests were cut off at shutdown.
	RequestsCutOff Event = "http.cut_off"
	// The export of the audit log broke off.
	// To do: Ask for it again.
	AuditExportBroken Event = "http.audit_export_broken"
	// A stream of events broke off.
	// To do: The client connects again by itself.
	EventStreamBroken Event = "http.event_stream_broken"
	// A page of the console failed because of a fault of the service's own.
	// To do: Look at the error; the page shows the same request id.
	PageFailed Event = "http.page_failed"
	// The page that tells of an error failed itself.
	// To do: A fault of davit: report it with the error.
	ErrorPageFailed Event = "http.error_page_failed"
	// It could not be found out who makes a request.
	// To do: Look at the error; disk and store first.
	IdentityUnknown Event = "http.identity_unknown"
)

// People.
const (
	// Somebody gave a wrong user name or password.
	// To do: If it repeats, look for who guesses there.
	SignInFailed Event = "people.sign_in_failed"
	// A user is locked after too many wrong passwords.
	// To do: It ends by itself; ask the user.
	UserLocked Event = "people.user_locked"
	// A sign-in through OpenID Connect was refused.
	// To do: Look at the reason; often a role is missing at the provider.
	SignInRefused Event = "people.oidc_refused"
	// A sign-in through OpenID Connect failed.
	// To do: Look at the provider and at the service's clock.
	SignInBroken Event = "people.oidc_failed"
	// The last use of a token or a session was not written down.
	// To do: Look at the disk.
	UseNotWritten Event = "people.use_not_written"
)
