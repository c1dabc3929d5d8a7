package logevent

// This file: the bridge, its ports and the process.

// The bridge and its connection to the broker.
const (
	// The bridge is connected to the broker.
	BridgeConnected Event = "bridge.connected"
	// The bridge's connection to the broker is lost; it is made again.
	// To do: Look at the network and the broker.
	BridgeDisconnected Event = "bridge.disconnected"
	// The broker cannot be reached or refuses the login; it is tried again.
	// To do: Look at address, user name, password and certificates.
	BrokerUnreachable Event = "bridge.broker_unreachable"
	// The service is busy, or is only starting, and asks to come back later, which is done.
	// To do: Nothing, unless it goes on for minutes: then look at the service's log.
	BrokerAsksToWait Event = "bridge.asked_to_wait"
	// The broker ended the connection.
	// To do: Look at the broker's log.
	BrokerEndedConnection Event = "bridge.connection_ended"
	// Another program has connected with this user name, which serves one.
	// To do: End one of the two, or give it a user name of its own (davit bridge add, davit device add).
	BridgeDuplicated Event = "bridge.duplicated"
	// The connection to the broker was not closed in order.
	BridgeFarewell Event = "bridge.farewell_failed"
	// A farewell was not sent; the broker says offline for the device.
	FarewellNotSent Event = "bridge.farewell_not_sent"
	// A subscription was not made or not ended; it is tried with the next connection.
	// To do: Nothing, unless it repeats: then look at the broker.
	SubscribeFailed Event = "bridge.subscribe_failed"
	// The broker refuses a subscription.
	// To do: May this user name act for the device? davit bridge add, davit device add.
	SubscribeRefused Event = "bridge.subscribe_refused"
	// A message of the module's own would break the contract and is not sent.
	// To do: A fault of davit: report it with the error.
	BridgeMessageInvalid Event = "bridge.message_invalid"
	// A message was dropped because the connection is slower than the device; what counts is repeated.
	BridgeMessageDropped Event = "bridge.message_dropped"
	// A message was not sent; what counts is repeated.
	PublishFailed Event = "bridge.publish_failed"
	// A message of the service could not be read.
	// To do: Compare the versions of service and bridge.
	ServiceMessageMalformed Event = "bridge.service_message_malformed"
	// The image spool could not be used.
	// To do: Look at the bridge's disk: room, permissions, errors.
	SpoolFailed Event = "bridge.spool_failed"
	// A module could not write fetched bytes through to its slot.
	// To do: Look at the module's disk.
	SlotNotSynced Event = "bridge.slot_not_synced"
	// The bridge ends, and lets loads into host MCUs come to their end.
	DrainStarted Event = "bridge.draining"
	// The drain was stopped by another signal.
	DrainStopped Event = "bridge.drain_stopped"
	// The drain has reached its limit; the updates go on after the next start.
	DrainLimit Event = "bridge.drain_limit"
	// No load is under way any more; the bridge ends.
	DrainDone Event = "bridge.drained"
	// A device that was taken off the configuration and is back is not served.
	// To do: Reload again, or restart the bridge.
	DeviceNotServed Event = "bridge.device_not_served"
	// davit bridge status will not work, because the socket cannot be made.
	// To do: Look at the data folder's permissions and file system.
	StatusSocketFailed Event = "bridge.status_socket_failed"
	// A reload was asked for, but there is no configuration file.
	// To do: Run davit bridge with --config FILE.
	ReloadImpossible Event = "bridge.reload_impossible"
	// The configuration file was read again.
	ConfigReloaded Event = "bridge.config_reloaded"
	// Some changed settings take effect at the next start.
	// To do: Restart the bridge when it suits.
	ConfigLater Event = "bridge.config_later"
	// The configuration file is not taken; the bridge goes on as it was.
	// To do: Correct the line and field that are named, and reload again.
	ConfigRefused Event = "bridge.config_refused"
)

// Serial ports and host MCUs.
const (
	// A serial port is open.
	PortOpen Event = "port.open"
	// A serial port cannot be used; it is tried again.
	// To do: Look at cable, permissions and name (davit bridge ports).
	PortDown Event = "port.down"
	// A port waits for another that holds the same line.
	PortWaiting Event = "port.waiting"
	// A port is closed, and its device is gone from this bridge.
	PortClosed Event = "port.closed"
	// A port has other settings.
	PortConfigured Event = "port.configured"
	// What the service says of a device cannot be applied to its port.
	// To do: Correct the device type, or the port's settings.
	PortUnchanged Event = "port.unchanged"
	// A host MCU is spoken to in this dialect.
	PortDialect Event = "port.dialect"
	// A host MCU has reported its versions.
	HostVersions Event = "port.host_versions"
	// A port is not recorded.
	// To do: Look at the folder of the recordings.
	RecordingFailed Event = "recording.failed"
	// Recording has ended for all ports; updates go on.
	// To do: Make room on the disk and start the bridge again to record.
	RecordingEnded Event = "recording.ended"
	// A recording is as long as one may become; the next opening of the port begins another.
	RecordingFull Event = "recording.full"
	// The disk did not take the end of the recordings.
	// To do: Look at the disk.
	RecordingCut Event = "recording.cut"
)

// Files, listeners and the process.
const (
	// Files have changed and were read again.
	FilesReread Event = "files.reread"
	// Files have changed and cannot be used; what they said before stays in force.
	// To do: Mend the file that the error names.
	FilesUnusable Event = "files.unusable"
	// Passwords pass unencrypted on this listener; that is for a lab.
	// To do: Use --mqtts, with certificates.
	ListenerUnencrypted Event = "listener.unencrypted"
	// Nobody can log in on this listener.
	// To do: Give devices certificates (--mqtts with --mqtts-client-ca), or say --passwords on in a lab.
	ListenerUnusable Event = "listener.unusable"
	// Devices and bridges log in with certificates only on this listener.
	ListenerCertificates Event = "listener.certificates_only"
	// Whoever verifies the TLS certificate does not connect.
	// To do: Have the certificate issued anew, or set the clock; a running service takes the new file by itself.
	CertificateOutOfTime Event = "listener.certificate_out_of_time"
	// Something happened in a simulated host MCU.
	SimulatedMCU Event = "mcu.event"
	// The levels of the log were changed while the process runs.
	LogLevelChanged Event = "log.level_changed"
	// Spans could not be exported and are dropped; it is said once until it works again.
	// To do: Look at the collector and at --trace-endpoint.
	TraceExportFailed Event = "trace.export_failed"
	// Spans are exported again.
	TraceExportResumed Event = "trace.export_resumed"
)
