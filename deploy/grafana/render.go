package main

import (
	"bytes"
	"encoding/json"
	"strings"
)

// columns is how wide Grafana's grid is.
const columns = 24

// Kinds of panels, by the names of Grafana's plugins.
const (
	stat       = "stat"
	timeseries = "timeseries"
	bargauge   = "bargauge"
)

// Units, by the ids of Grafana.
const (
	number      = "short"
	seconds     = "s"
	bytesIEC    = "bytes"
	bytesPerSec = "Bps"
	perSecond   = "ops"
	ratio       = "percentunit"
	dateFromNow = "dateTimeFromNow"
	upDown      = "bool_yes_no"
)

// dashboard is what is particular to one.
type dashboard struct {
	file, uid, title, text string
	// scraped is a metric that every program has which the dashboard is about: its jobs and
	// instances are offered for choice.
	scraped string
	rows    []row
}

// row is panels beside each other, all of one height, that share the width evenly.
type row struct {
	height int
	panels []panel
}

// panel is a graph, or a number. In queries @ stands for the filters of the dashboard.
type panel struct {
	title, text, kind, unit string
	queries                 []query
	// red is from which value on a number is red, 0 for never; below says that it is red
	// under that value instead.
	red   float64
	below bool
	stack bool
}

type query struct{ expr, legend string }

// filters are what the variables of a dashboard select.
const filters = `job=~"$job",instance=~"$instance"`

type object map[string]any

// render is the dashboard in Grafana's JSON model.
func (d *dashboard) render() ([]byte, error) {
	var panels []object
	y := 0
	for _, r := range d.rows {
		for i, p := range r.panels {
			width := columns / len(r.panels)
			panels = append(panels, p.render(len(panels)+1, object{"h": r.height, "w": width, "x": i * width, "y": y}))
		}
		y += r.height
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(object{
		"uid": d.uid, "title": d.title, "description": d.text, "tags": []string{"davit"}, "schemaVersion": 39, "version": 1, "id": nil,
		"editable": true, "graphTooltip": 1, "refresh": "30s", "timezone": "browser", "time": object{"from": "now-6h", "to": "now"},
		"annotations": object{"list": []any{}}, "templating": object{"list": d.variables()}, "panels": panels,
		"links": []object{{
			"type": "dashboards", "title": "davit", "tags": []string{"davit"}, "asDropdown": false, "includeVars": false, "keepTime": true,
			"icon": "external link", "targetBlank": false, "tooltip": "", "url": "",
		}},
	})
	return b.Bytes(), err
}

var source = object{"type": "prometheus", "uid": "${datasource}"}

// variables are the choices at the top of a dashboard.
func (d *dashboard) variables() []object {
	all := []object{{
		"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": object{}, "hide": 0, "includeAll": false,
		"multi": false, "options": []any{}, "refresh": 1, "regex": "", "skipUrlSync": false,
	}}
	for _, v := range [][3]string{
		{"job", "Job", "label_values(" + d.scraped + ", job)"},
		{"instance", "Instance", "label_values(" + d.scraped + `{job=~"$job"}, instance)`},
	} {
		all = append(all, object{
			"name": v[0], "label": v[1], "type": "query", "datasource": source, "definition": v[2],
			"query": object{"query": v[2], "refId": "PrometheusVariableQueryEditor-VariableQuery"}, "current": object{}, "hide": 0,
			"includeAll": true, "allValue": ".+", "multi": true, "options": []any{}, "refresh": 2, "regex": "", "skipUrlSync": false, "sort": 1,
		})
	}
	return all
}

func (p *panel) render(id int, grid object) object {
	var targets []object
	for i, q := range p.queries {
		targets = append(targets, object{
			"refId": string(rune('A' + i)), "datasource": source, "editorMode": "code", "expr": strings.ReplaceAll(q.expr, "@", filters),
			"legendFormat": q.legend, "range": p.kind == timeseries, "instant": p.kind != timeseries,
		})
	}
	defaults := object{"unit": p.unit, "min": 0, "thresholds": object{"mode": "absolute", "steps": p.steps()}, "mappings": []any{}}
	if p.unit == dateFromNow {
		delete(defaults, "min")
	}
	if p.unit == ratio {
		defaults["max"] = 1
	}
	if p.kind == timeseries {
		defaults["custom"] = p.custom()
	}
	return object{
		"id": id, "type": p.kind, "title": p.title, "description": p.text, "datasource": source, "gridPos": grid, "targets": targets,
		"fieldConfig": object{"defaults": defaults, "overrides": []any{}}, "options": p.options(),
	}
}

// steps are the colours of values.
func (p *panel) steps() []object {
	switch {
	case p.red == 0:
		return []object{{"color": "blue", "value": nil}}
	case p.below:
		return []object{{"color": "red", "value": nil}, {"color": "green", "value": p.red}}
	}
	return []object{{"color": "green", "value": nil}, {"color": "red", "value": p.red}}
}

// custom is how graphs are drawn.
func (p *panel) custom() object {
	fill, stacking := 10, "none"
	if p.stack {
		fill, stacking = 40, "normal"
	}
	return object{"drawStyle": "line", "lineWidth": 1, "fillOpacity": fill, "showPoints": "never", "spanNulls": false, "stacking": object{"mode": stacking, "group": "A"}}
}

func (p *panel) options() object {
	if p.kind == timeseries {
		return object{
			"legend":  object{"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []any{}},
			"tooltip": object{"mode": "multi", "sort": "desc"},
		}
	}
	reduce := object{"calcs": []string{"lastNotNull"}, "fields": "", "values": false}
	if p.kind == bargauge {
		return object{"displayMode": "gradient", "orientation": "horizontal", "reduceOptions": reduce, "showUnfilled": true, "valueMode": "color"}
	}
	return object{"colorMode": "value", "graphMode": "area", "justifyMode": "auto", "orientation": "auto", "reduceOptions": reduce, "textMode": "auto"}
}

// quantiles are queries for the median and the 99th percentile of a histogram.
func quantiles(metric, name string) []query {
	of := func(q string) string {
		return "histogram_quantile(" + q + ", sum by (le) (rate(" + metric + "_bucket{@}[$__rate_interval])))"
	}
	return []query{{of("0.5"), name + " median"}, {of("0.99"), name + " 99th percentile"}}
}

// rate is the rate of a counter, summed by labels.
func rate(metric, selector, by string) string {
	text := "sum"
	if by != "" {
		text += " by (" + by + ")"
	}
	if selector != "" {
		selector = "," + selector
	}
	return text + " (rate(" + metric + "{@" + selector + "}[$__rate_interval]))"
}
