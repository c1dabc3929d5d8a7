package web

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// functions are the templates' functions, but for "can".
func (c *Console) functions() template.FuncMap {
	return template.FuncMap{
		"asset":    c.static.url,
		"ago":      func(t time.Time) template.HTML { return timeElement(t, c.now()) },
		"date":     func(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:04 UTC") },
		"between":  func(from, to time.Time) string { return duration(to.Sub(from)) },
		"since":    func(t time.Time) string { return duration(c.now().Sub(t)) },
		"duration": anyDuration,
		"size":     anySize,
		"number":   anyNumber,
		"percent":  percent,
		"plural":   plural,
		"state":    stateBadge,
		"badge":    badge,
		"cause":    causeText,
		"icon":     icon,
		"live":     liveAttributes,
		"field":    newField,
		"dict":     dict,
		"list":     func(v ...any) []any { return v },
		"sorted":   sortedKeys,
		"join":     func(s []string, by string) string { return strings.Join(s, by) },
		"labels":   labelList,
		"few":      func(s []string) []string { return s[:min(len(s), fewOf)] },
		"more":     func(s []string) int { return max(0, len(s)-fewOf) },
		"short":    short,
		"json":     prettyJSON,
		"title":    imageTitle,
		"lower":    strings.ToLower,

		"excluded":      excluded,
		"sentence":      asSentence,
		"waveState":     waveBadge,
		"formatName":    formatName,
		"fieldName":     fieldName,
		"chartVersions": chartVersions,
		"add":           func(a, b int) int { return a + b },
	}
}

// timeElement is a time as people say it, with the exact one for machines and for
// whoever points at it.
func timeElement(t, now time.Time) template.HTML {
	if t.IsZero() {
		return `<span class="muted">never</span>`
	}
	return template.HTML(fmt.Sprintf(`<time datetime="%s" title="%s">%s</time>`, // made of a time only
		t.UTC().Format(time.RFC3339), t.UTC().Format("2 Jan 2006, 15:04:05 UTC"), relative(now.Sub(t), t)))
}

func relative(d time.Duration, t time.Time) string {
	past, form := d, "%s ago"
	if d < 0 {
		past, form = -d, "in %s"
	}
	const day = 24 * time.Hour
	switch {
	case past < 5*time.Second:
		return "just now"
	case past < time.Minute:
		return fmt.Sprintf(form, plural(int(past/time.Second), "second"))
	case past < time.Hour:
		return fmt.Sprintf(form, plural(int(past/time.Minute), "minute"))
	case past < day:
		return fmt.Sprintf(form, plural(int(past/time.Hour), "hour"))
	case past < 30*day:
		return fmt.Sprintf(form, plural(int(past/day), "day"))
	}
	return t.UTC().Format("2 Jan 2006")
}

// duration is a length of time in its two largest units.
func duration(d time.Duration) string {
	if d < 0 {
		d = 0
	}
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return strings.TrimSuffix(fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second), " 0 s")
	case d < 48*time.Hour:
		return strings.TrimSuffix(fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute), " 0 min")
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

func anyDuration(v any) (string, error) {
	switch d := v.(type) {
	case time.Duration:
		return duration(d), nil
	case orchestrator.Duration:
		return duration(time.Duration(d)), nil
	}
	return "", fmt.Errorf("duration of %T", v)
}

func toInt(v any) (int64, error) {
	switch n := v.(type) {
	case int:
		return int64(n), nil
	case int64:
		return n, nil
	case uint64:
		return int64(min(n, 1<<62)), nil
	}
	return 0, fmt.Errorf("number of %T", v)
}

// anySize is a number of bytes, as in "1.2 MiB".
func anySize(v any) (string, error) {
	n, err := toInt(v)
	if err != nil {
		return "", err
	}
	if n < 1<<10 {
		return plural(int(n), "byte"), nil
	}
	units := []string{"KiB", "MiB", "GiB", "TiB"}
	f := float64(n) / (1 << 10)
	unit := 0
	for f >= 999.5 && unit < len(units)-1 {
		f /= 1 << 10
		unit++
	}
	text := strconv.FormatFloat(f, 'f', 1, 64)
	if f >= 100 {
		text = strconv.FormatFloat(f, 'f', 0, 64)
	}
	return strings.TrimSuffix(text, ".0") + " " + units[unit], nil
}

// grouped is a number with thin spaces between its thousands.
func grouped(n int64) string {
	if n < 0 {
		return "-" + grouped(-n)
	}
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

func anyNumber(v any) (string, error) {
	n, err := toInt(v)
	return grouped(n), err
}

// percent of a whole as an integer that reaches 0 and 100 only when it is so.
func percent(part, whole any) (int, error) {
	p, err1 := toInt(part)
	w, err2 := toInt(whole)
	if err := errors.Join(err1, err2); err != nil || w <= 0 || p <= 0 {
		return 0, err
	}
	if p >= w {
		return 100, nil
	}
	return int(min(max((float64(p)*100)/float64(w), 1), 99)), nil
}

// plural is a number and its noun; forms that do not end in s are given.
func plural(n any, one string, many ...string) string {
	i, err := toInt(n)
	if err != nil {
		return ""
	}
	noun := one + "s"
	if len(many) > 0 {
		noun = many[0]
	}
	if i == 1 {
		noun = one
	}
	return grouped(i) + " " + noun
}

// stateBadge is the badge of an execution's or a job's state.
func stateBadge(v any) (template.HTML, error) {
	s := fmt.Sprint(v)
	tones := map[string]string{
		"succeeded": "good", "completed": "good", "failed": "bad", "rejected": "bad", "timed_out": "bad",
		"running": "busy", "offered": "busy", "accepted": "busy", "downloading": "busy", "downloaded": "busy", "installing": "busy", "booting": "busy",
		"paused": "warn", "draft": "idle", "queued": "idle", "canceled": "idle",
		"online": "good", "offline": "idle",
	}
	tone, ok := tones[s]
	if !ok {
		return "", fmt.Errorf("no badge for state %q", s)
	}
	return badge(tone, strings.ReplaceAll(s, "_", " ")), nil
}

// badge is a word with a tone: good, bad, busy, warn or idle.
func badge(tone, text string) template.HTML {
	return template.HTML(`<span class="badge ` + template.HTMLEscapeString(tone) + `">` + template.HTMLEscapeString(text) + `</span>`) //nolint:gosec // escaped
}

// causeText is a cause as people read it.
func causeText(c schemas.Cause) string {
	texts := map[schemas.Cause]string{
		schemas.CauseNetwork: "network", schemas.CauseSerial: "serial line", schemas.CauseSize: "image too large", schemas.CauseFlash: "flash memory",
		schemas.CauseChecksum: "checksum", schemas.CauseSignature: "signature", schemas.CauseBoot: "did not boot", schemas.CauseAlready: "runs it already",
		schemas.CauseMinVersion: "min version", schemas.CauseRejected: "refused by the MCU", schemas.CauseTimeout: "time limit", schemas.CauseProtocol: "protocol error",
		schemas.CauseStorage: "module's storage", schemas.CauseCanceled: "canceled", schemas.CauseDeferred: "put off by the device", schemas.CauseInternal: "internal fault",
	}
	if t := texts[c]; t != "" {
		return t
	}
	return string(c)
}

// liveAttributes mark a fragment that is read anew when what the page follows has
// changed; the id must be the fragment's own.
func liveAttributes(id string) template.HTMLAttr {
	id = template.HTMLEscapeString(id)
	return template.HTMLAttr(`id="` + id + `" data-live-part hx-get="" hx-trigger="davit:changed from:body" hx-select="#` + id + `" hx-swap="outerHTML"`) //nolint:gosec // escaped
}

// dict gives a template several values under names.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, errors.New("dict: names and values come in pairs")
	}
	m := make(map[string]any, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: a name of type %T", pairs[i])
		}
		m[name] = pairs[i+1]
	}
	return m, nil
}

// sortedKeys are the keys of a map of counts, the largest count first.
func sortedKeys(v any) ([]string, error) {
	counts := map[string]int{}
	switch m := v.(type) {
	case map[string]int:
		counts = m
	case map[schemas.State]int:
		for k, n := range m {
			counts[string(k)] = n
		}
	case map[schemas.Cause]int:
		for k, n := range m {
			counts[string(k)] = n
		}
	case map[string]string:
		return slices.Sorted(maps.Keys(m)), nil
	default:
		return nil, fmt.Errorf("sorted of %T", v)
	}
	keys := slices.Sorted(maps.Keys(counts))
	slices.SortStableFunc(keys, func(a, b string) int { return counts[b] - counts[a] })
	return keys, nil
}

func labelList(labels map[string]string) []string {
	out := make([]string, 0, len(labels))
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		text := k
		if labels[k] != "" {
			text += "=" + labels[k]
		}
		out = append(out, text)
	}
	return out
}

// fewOf is how many labels of a device a list shows.
const fewOf = 5

// short is the beginning of a hash.
func short(s string) string {
	const n = 12
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}

func prettyJSON(v any) (string, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	return string(b), err
}

// imageTitle is how people call an image: by its name or, failing that, by its
// type, and its version: "Heating control 2.1.0", "application 2.1.0".
func imageTitle(i orchestrator.Image) string { return cmp.Or(i.Name, i.ImageType) + " " + i.Version }
