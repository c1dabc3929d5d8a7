package main

// rack is about bridges: their ports, the lines and what reaches host MCUs.
func rack() dashboard {
	return dashboard{
		file: "bridge-rack.json", uid: "davit-bridge-rack", title: "davit: bridge rack", scraped: "davit_bridge_mqtt_connected",
		text: "Bridges: serial ports, the lines to host MCUs, and the images on their way.",
		rows: []row{
			{4, []panel{
				{title: "Connected to the broker", text: "Whether every bridge has its connection to the broker.", kind: stat, unit: upDown, red: 1, below: true, queries: []query{{"min (davit_bridge_mqtt_connected{@})", "connected"}}},
				{title: "Ports open", text: "Serial ports that are open.", kind: stat, unit: number, queries: []query{{"sum (davit_bridge_port_up{@})", "open"}}},
				{title: "Ports closed", text: "Serial ports that are not open: unplugged, in use by another program, or not known yet how to speak on.", kind: stat, unit: number, red: 1,
					queries: []query{{"count (davit_bridge_port_up{@}) - sum (davit_bridge_port_up{@})", "closed"}}},
				{title: "Updates that failed", text: "Updates that ended without success in the time shown.", kind: stat, unit: number, red: 1,
					queries: []query{{`sum (increase(davit_bridge_updates_total{@,state!="succeeded"}[$__range]))`, "failed"}}},
			}},
			{8, []panel{
				{title: "Goodput, share of the line", text: "Image bytes of the last finished load as a share of what the line carries, by port.", kind: bargauge, unit: ratio, red: 0.5, below: true,
					queries: []query{{"davit_bridge_goodput_ratio{@}", "{{instance}} {{port}}"}}},
				{title: "Loading", text: "Image bytes that host MCUs have acknowledged, by port.", kind: timeseries, unit: bytesPerSec, queries: []query{{rate("davit_bridge_loaded_bytes_total", "", "port"), "{{port}}"}}},
				{title: "Updates", text: "Updates that ended, by state.", kind: timeseries, unit: perSecond, stack: true, queries: []query{{rate("davit_bridge_updates_total", "", "state"), "{{state}}"}}},
			}},
			{8, []panel{
				{title: "Frames", text: "Frames on the serial lines, by event.", kind: timeseries, unit: perSecond, queries: []query{{rate("davit_bridge_frames_total", "", "event"), "{{event}}"}}},
				{title: "Frames sent again or lost", text: "Frames that were sent again or given up, as a share of those sent, by port.", kind: timeseries, unit: ratio,
					queries: []query{{`sum by (port) (rate(davit_bridge_frames_total{@,event=~"retried|lost"}[$__rate_interval])) / sum by (port) (rate(davit_bridge_frames_total{@,event="sent"}[$__rate_interval]))`, "{{port}}"}}},
				{title: "Bad frames", text: "Frames that were dropped for their checksum, length or type, by port.", kind: timeseries, unit: perSecond, queries: []query{{rate("davit_bridge_frames_total", `event="bad"`, "port"), "{{port}}"}}},
			}},
			{8, []panel{
				{title: "Restarts of host MCUs", text: "Sequence restarts that were seen, by port.", kind: timeseries, unit: perSecond, queries: []query{{rate("davit_bridge_mcu_resets_total", "", "port"), "{{port}}"}}},
				{title: "Image spool", text: "Bytes of images on the bridge's disk, those of them that make no room, and the limit.", kind: timeseries, unit: bytesIEC,
					queries: []query{{"sum by (instance) (davit_bridge_spool_bytes{@})", "{{instance}} all"}, {"sum by (instance) (davit_bridge_spool_needed_bytes{@})", "{{instance}} needed"},
						{"sum by (instance) (davit_bridge_spool_limit_bytes{@})", "{{instance}} limit"}}},
				{title: "Disk", text: "Share of the data folder's file system that may still be used.", kind: timeseries, unit: ratio,
					queries: []query{{"davit_data_filesystem_avail_bytes{@} / davit_data_filesystem_size_bytes{@}", "{{instance}}"}}},
			}},
			{8, []panel{
				{title: "Fetched", text: "Image bytes that were received and wanted, and those taken from other images on the disk.", kind: timeseries, unit: bytesPerSec,
					queries: []query{{rate("davit_bridge_fetched_bytes_total", "", ""), "fetched"}, {rate("davit_bridge_reused_block_bytes_total", "", ""), "reused"}}},
				{title: "Signed images", text: "Signed manifests that were looked at, by result, and blocks that were not what was signed.", kind: timeseries, unit: perSecond,
					queries: []query{{rate("davit_bridge_manifests_total", "", "result"), "{{result}}"}, {rate("davit_bridge_bad_blocks_total", "", ""), "bad blocks"}}},
				{title: "Out of the ordinary", text: "Malformed messages of the service, chunks that nobody asked for, and downloads that look like an attack.", kind: timeseries, unit: perSecond,
					queries: []query{{rate("davit_bridge_refused_messages_total", "", "kind"), "malformed {{kind}}"}, {rate("davit_bridge_stray_chunks_total", "", ""), "stray chunks"},
						{rate("davit_bridge_retrieval_alarms_total", "", "kind"), "alarm: {{kind}}"}}},
			}},
		},
	}
}
