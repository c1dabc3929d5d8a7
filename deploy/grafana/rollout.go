package main

// rollout is about jobs: how far they are, what fails and how fast images travel.
func rollout() dashboard {
	return dashboard{
		file: "rollout.json", uid: "davit-rollout", title: "davit: rollout", scraped: "davit_jobs",
		text: "Jobs: how far they are, what fails and why, and how fast images travel.",
		rows: []row{
			{4, []panel{
				{title: "Jobs running", text: "Jobs that run: their executions are offered.", kind: stat, unit: number, queries: []query{{`sum (davit_jobs{@,state="running"})`, "running"}}},
				{title: "Jobs paused", text: "Jobs that are paused, by a person or by a stop rule.", kind: stat, unit: number, red: 1, queries: []query{{`sum (davit_jobs{@,state="paused"})`, "paused"}}},
				{title: "Stopped by a rule", text: "Jobs that a stop rule has paused or canceled in the time shown.", kind: stat, unit: number, red: 1,
					queries: []query{{"sum (increase(davit_job_stops_total{@}[$__range]))", "stops"}}},
				{title: "Failed", text: "Of the executions that ended in the time shown, those that did not succeed.", kind: stat, unit: ratio, red: 0.1,
					queries: []query{{`sum (increase(davit_execution_transitions_total{@,state=~"rejected|failed|timed_out"}[$__range])) / sum (increase(davit_execution_transitions_total{@,state=~"succeeded|rejected|failed|timed_out"}[$__range]))`, "failed"}}},
			}},
			{8, []panel{
				{title: "Executions, by job and state", text: "Executions of the newest jobs that run or are paused, where there are some.", kind: bargauge, unit: number,
					queries: []query{{"sum by (job_name, state) (davit_job_executions{@}) > 0", "{{job_name}} {{state}}"}}},
				{title: "Executions, by state", text: "Executions of all jobs that have not ended, by state.", kind: timeseries, unit: number, stack: true,
					queries: []query{{`sum by (state) (davit_executions{@,state=~"queued|offered|accepted|downloading|downloaded|installing|booting"})`, "{{state}}"}}},
				{title: "Wave", text: "Number of the last wave that was released, by job.", kind: timeseries, unit: number, queries: []query{{"max by (job_name) (davit_job_wave{@})", "{{job_name}}"}}},
			}},
			{8, []panel{
				{title: "Ends", text: "Executions that ended, by state.", kind: timeseries, unit: perSecond, stack: true,
					queries: []query{{rate("davit_execution_transitions_total", `state=~"succeeded|rejected|failed|timed_out|canceled"`, "state"), "{{state}}"}}},
				{title: "Failures, by cause", text: "Executions that ended without success, by cause.", kind: timeseries, unit: perSecond, stack: true,
					queries: []query{{rate("davit_execution_transitions_total", `state=~"rejected|failed|timed_out"`, "cause"), "{{cause}}"}}},
				{title: "Tried again", text: "Executions that were queued once more by the retry policy, attempts that were taken back, and devices that fell back after success.", kind: timeseries, unit: perSecond,
					queries: []query{{rate("davit_execution_retries_total", "", "cause"), "retry after {{cause}}"}, {rate("davit_offers_taken_back_total", "", ""), "taken back"}, {rate("davit_execution_fall_backs_total", "", ""), "fell back"}}},
			}},
			{8, []panel{
				{title: "Offers", text: "Offers that were published and withdrawn, and failures to do so.", kind: timeseries, unit: perSecond,
					queries: []query{{rate("davit_offers_published_total", "", ""), "published"}, {rate("davit_offers_repeated_total", "", ""), "of these repeated"}, {rate("davit_offers_withdrawn_total", "", ""), "withdrawn"},
						{rate("davit_offer_publish_failures_total", "", ""), "failures"}}},
				{title: "Hello to offer", text: "Time from a device's hello to the offer that was published because of it.", kind: timeseries, unit: seconds, queries: quantiles("davit_hello_to_offer_seconds", "hello to offer")},
				{title: "Waves and stops", text: "Waves that were released, and jobs that stop rules paused or canceled.", kind: timeseries, unit: perSecond,
					queries: []query{{rate("davit_job_waves_released_total", "", ""), "waves"}, {rate("davit_job_stops_total", "", "action"), "stopped: {{action}}"}}},
			}},
			{8, []panel{
				{title: "Image data", text: "Bytes of images sent to devices, by way: short to the connection that asked, long through the broker, shared once for many.", kind: timeseries, unit: bytesPerSec, stack: true,
					queries: []query{{rate("davit_chunk_sent_bytes_total", "", "way"), "{{way}}"}}},
				{title: "Fetch latency", text: "Time from a fetch to the first and to the last of its chunks being handed over.", kind: timeseries, unit: seconds,
					queries: append(quantiles("davit_fetch_first_chunk_seconds", "first chunk"), quantiles("davit_fetch_last_chunk_seconds", "last chunk")...)},
				{title: "Fetches", text: "Fetches that were honoured, and those refused by reason.", kind: timeseries, unit: perSecond,
					queries: []query{{rate("davit_fetches_total", "", ""), "honoured"}, {rate("davit_fetches_refused_total", "", "reason"), "refused: {{reason}}"}}},
			}},
			{8, []panel{
				{title: "Under way", text: "Bytes of image data that devices still await.", kind: timeseries, unit: bytesIEC, queries: []query{{"sum (davit_chunk_outstanding_bytes{@})", "under way"}}},
				{title: "Waiting for chunks", text: "Devices that something is to be sent to, and devices that follow a shared stream.", kind: timeseries, unit: number,
					queries: []query{{"sum by (state) (davit_chunk_flows{@})", "{{state}}"}, {"sum (davit_stream_followers{@})", "followers"}}},
				{title: "Why chunks wait", text: "How often something had to wait: for the module, for the credit of all, for the connection.", kind: timeseries, unit: perSecond,
					queries: []query{{rate("davit_chunk_waits_total", "", "for"), "{{for}}"}}},
			}},
		},
	}
}
