package main

// fleet is about devices: who is there, who comes and who is kept out.
func fleet() dashboard {
	return dashboard{
		file: "fleet.json", uid: "davit-fleet", title: "davit: fleet", scraped: "davit_devices_online",
		text: "Devices: who is there, what they say, and who is kept out.",
		rows: []row{
			{4, []panel{
				{title: "Devices", text: "Devices that are known.", kind: stat, unit: number, queries: []query{{"sum (davit_devices{@})", "devices"}}},
				{title: "Online", text: "Devices that are online by their presence.", kind: stat, unit: number, red: 1, below: true, queries: []query{{"sum (davit_devices_online{@})", "online"}}},
				{title: "Share online", text: "Devices that are online, of those that are known.", kind: stat, unit: ratio, red: 0.5, below: true,
					queries: []query{{"sum (davit_devices_online{@}) / sum (davit_devices{@})", "online"}}},
				{title: "Quarantine", text: "Devices that are in quarantine: not admitted, and offered nothing.", kind: stat, unit: number, red: 1, queries: []query{{"sum (davit_devices_quarantined{@})", "quarantined"}}},
			}},
			{8, []panel{
				{title: "Connected, by type", text: "Devices whose connection to the embedded broker stands, those behind bridges included.", kind: timeseries, unit: number, stack: true,
					queries: []query{{"sum by (type) (davit_connected_devices{@})", "{{type}}"}}},
				{title: "Known, by type", text: "Devices that are known, by device type.", kind: timeseries, unit: number, stack: true, queries: []query{{"sum by (type) (davit_devices{@})", "{{type}}"}}},
			}},
			{8, []panel{
				{title: "Connections", text: "MQTT connections that were accepted, and those that another of the same client took over.", kind: timeseries, unit: perSecond,
					queries: []query{{rate("davit_broker_connects_total", "", "transport"), "{{transport}}"}, {rate("davit_broker_takeovers_total", "", ""), "taken over"}}},
				{title: "Connections refused", text: "Connections that were refused, by reason.", kind: timeseries, unit: perSecond, stack: true,
					queries: []query{{rate("davit_broker_connect_refusals_total", "", "reason"), "{{reason}}"}}},
			}},
			{8, []panel{
				{title: "Messages of devices", text: "Messages that devices have sent, by kind. The embedded broker hands fetches over directly; they are counted here all the same.", kind: timeseries, unit: perSecond,
					queries: []query{{rate("davit_gateway_mqtt_received_total", "", "kind"), "{{kind}}"}}},
				{title: "Messages refused or dropped", text: "Messages that were refused, by reason, and those dropped because the service was overloaded.", kind: timeseries, unit: perSecond,
					queries: []query{{rate("davit_gateway_mqtt_refused_total", "", "reason"), "{{reason}}"}, {rate("davit_gateway_mqtt_dropped_total", "", ""), "overload"}}},
			}},
			{8, []panel{
				{title: "Refused by the ACL", text: "Publishes, subscriptions and wills that a device or bridge may not have, by reason.", kind: timeseries, unit: perSecond,
					queries: []query{{rate("davit_broker_acl_refusals_total", "", "action, reason"), "{{action}} {{reason}}"}}},
				{title: "Over a limit", text: "Packets, connections and subscriptions over a limit of their device or bridge, by limit.", kind: timeseries, unit: perSecond,
					queries: []query{{rate("davit_broker_limited_total", "", "limit"), "{{limit}}"}}},
			}},
		},
	}
}
