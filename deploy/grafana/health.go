package main

// health is about the service itself: store, queues, HTTP, sign-in and the process.
func health() dashboard {
	return dashboard{
		file: "service-health.json", uid: "davit-service-health", title: "davit: service health", scraped: "davit_store_size_bytes",
		text: "The service itself: store, queues, HTTP, sign-in, certificate and process.",
		rows: []row{
			{4, []panel{
				{title: "Up", text: "Whether every instance could be scraped.", kind: stat, unit: upDown, red: 1, below: true, queries: []query{{"min (up{@})", "up"}}},
				{title: "Connected to the broker", text: "Whether the service's own connections to the broker stand.", kind: stat, unit: upDown, red: 1, below: true, queries: []query{{"min (davit_gateway_mqtt_connected{@})", "connected"}}},
				{title: "Certificate ends", text: "When the first TLS certificate of the service ends.", kind: stat, unit: dateFromNow, queries: []query{{"min (davit_tls_certificate_not_after_timestamp_seconds{@}) * 1000", "ends"}}},
				{title: "Disk", text: "Share of the data folder's file system that may still be used.", kind: stat, unit: ratio, red: 0.1, below: true,
					queries: []query{{"min (davit_data_filesystem_avail_bytes{@} / davit_data_filesystem_size_bytes{@})", "may be used"}}},
				{title: "Version", text: "What the instances were built from.", kind: stat, unit: number, queries: []query{{"sum by (version, revision, goversion) (davit_build_info{@})", "{{version}} {{revision}}"}}},
				{title: "Files in force", text: "Whether key lists, keys and certificate are in force as the files say.", kind: stat, unit: upDown, red: 1, below: true, queries: []query{{"min (davit_file_reload_successful{@})", "in force"}}},
			}},
			{8, []panel{
				{title: "Commit latency", text: "Time of a commit of the store.", kind: timeseries, unit: seconds, queries: quantiles("davit_store_commit_seconds", "commit")},
				{title: "Batch size", text: "Updates that were committed together.", kind: timeseries, unit: number, queries: quantiles("davit_store_commit_updates", "updates")},
				{title: "Commits", text: "Commits of the store, and those that failed.", kind: timeseries, unit: perSecond,
					queries: []query{{rate("davit_store_commit_seconds_count", "", ""), "commits"}, {rate("davit_store_commit_failures_total", "", ""), "failures"}}},
			}},
			{8, []panel{
				{title: "Store and images", text: "Size of the records' file, what of it is free for the next commits, and of all image files.", kind: timeseries, unit: bytesIEC,
					queries: []query{{"sum (davit_store_size_bytes{@})", "records"}, {"sum (davit_store_free_bytes{@})", "of these free"}, {"sum (davit_images_size_bytes{@})", "images"}}},
				{title: "Queues", text: "What waits: messages of devices, reports for a transaction, updates for a commit, offers to be published.", kind: timeseries, unit: number,
					queries: []query{{"sum by (queue) (davit_gateway_queue_messages{@})", "{{queue}}"}, {"sum (davit_reports_waiting{@})", "reports"}, {"sum (davit_store_updates_waiting{@})", "updates"},
						{"sum by (kind) (davit_offers_waiting{@})", "offers: {{kind}}"}}},
				{title: "Connections that wait", text: "CONNECTs that wait to be served, sockets that have not said CONNECT, TLS handshakes that wait for a processor, and connections whose socket is full.", kind: timeseries, unit: number,
					queries: []query{{"sum (davit_broker_connects_waiting{@})", "CONNECT"}, {"sum (davit_broker_sockets_pending{@})", "silent"}, {"sum (davit_broker_tls_handshakes_waiting{@})", "TLS"},
						{"sum (davit_broker_slow_connections{@})", "slow readers"}}},
			}},
			{8, []panel{
				{title: "HTTP requests", text: "Requests that were answered, by status.", kind: timeseries, unit: perSecond, stack: true, queries: []query{{rate("davit_http_requests_total", "", "status"), "{{status}}"}}},
				{title: "HTTP by route", text: "Requests that were answered, by method and route.", kind: timeseries, unit: perSecond, queries: []query{{rate("davit_http_requests_total", "", "method, route"), "{{method}} {{route}}"}}},
				{title: "HTTP latency", text: "Time from a request's header to the end of its answer; long polls and event streams are in it.", kind: timeseries, unit: seconds, queries: quantiles("davit_http_request_duration_seconds", "HTTP")},
			}},
			{8, []panel{
				{title: "Sign-in", text: "Tries to sign in, by result.", kind: timeseries, unit: perSecond, queries: []query{{rate("davit_sign_ins_total", "", "method, result"), "{{method}} {{result}}"}}},
				{title: "Requests refused", text: "Requests without a valid token, by somebody who may not do that, and over a limit.", kind: timeseries, unit: perSecond,
					queries: []query{{rate("davit_http_auth_failures_total", "", ""), "no valid token"}, {rate("davit_http_forbidden_total", "", ""), "not allowed"}, {rate("davit_http_limited_total", "", "limit"), "{{limit}}"}}},
				{title: "Logins of devices that failed", text: "Authentications of devices and bridges that failed, by reason.", kind: timeseries, unit: perSecond, queries: []query{{rate("davit_broker_auth_failures_total", "", "reason"), "{{reason}}"}}},
			}},
			{8, []panel{
				{title: "MQTT traffic", text: "Bytes that the embedded broker received and sent.", kind: timeseries, unit: bytesPerSec,
					queries: []query{{rate("davit_broker_received_bytes_total", "", ""), "received"}, {rate("davit_broker_sent_bytes_total", "", ""), "sent"}}},
				{title: "Memory", text: "Resident memory of the process, and the heap of the Go runtime.", kind: timeseries, unit: bytesIEC,
					queries: []query{{"sum (process_resident_memory_bytes{@})", "resident"}, {"sum (go_memstats_heap_alloc_bytes{@})", "heap"}}},
				{title: "Processor", text: "Processors that the process keeps busy.", kind: timeseries, unit: number, queries: []query{{rate("process_cpu_seconds_total", "", ""), "processors"}}},
				{title: "Descriptors", text: "Open file descriptors as a share of those that are allowed: every connection is one.", kind: timeseries, unit: ratio,
					queries: []query{{"max (process_open_fds{@} / process_max_fds{@})", "open"}}},
			}},
		},
	}
}
