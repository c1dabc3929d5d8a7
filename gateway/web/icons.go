package web

import (
	"fmt"
	"html/template"
)

// icon is an inline drawing of 24 by 24, in the colour of the text around it. It
// says nothing by itself: a text always stands beside it, or in the label of what
// it is in.
func icon(name string) (template.HTML, error) {
	paths, ok := drawings()[name]
	if !ok {
		return "", fmt.Errorf("no icon %q", name)
	}
	return template.HTML(`<svg class="icon" viewBox="0 0 24 24" width="18" height="18" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false">` + paths + `</svg>`), nil //nolint:gosec // constants
}

func drawings() map[string]string {
	return map[string]string{
		"overview":    `<rect x="3.5" y="3.5" width="7" height="9" rx="1.5"/><rect x="13.5" y="3.5" width="7" height="5" rx="1.5"/><rect x="13.5" y="11.5" width="7" height="9" rx="1.5"/><rect x="3.5" y="15.5" width="7" height="5" rx="1.5"/>`,
		"job":         `<path d="M12 3v12"/><path d="m7.5 10.5 4.5 4.5 4.5-4.5"/><path d="M4 16v2.5A2.5 2.5 0 0 0 6.5 21h11a2.5 2.5 0 0 0 2.5-2.5V16"/>`,
		"image":       `<path d="m12 3 8 4.5v9L12 21l-8-4.5v-9z"/><path d="m4.3 7.7 7.7 4.3 7.7-4.3"/><path d="M12 12v9"/>`,
		"device":      `<rect x="6" y="6" width="12" height="12" rx="2"/><rect x="10" y="10" width="4" height="4" rx=".5"/><path d="M9.5 3v3M14.5 3v3M9.5 18v3M14.5 18v3M3 9.5h3M3 14.5h3M18 9.5h3M18 14.5h3"/>`,
		"group":       `<circle cx="7" cy="7" r="3.2"/><circle cx="17" cy="7" r="3.2"/><circle cx="7" cy="17" r="3.2"/><circle cx="17" cy="17" r="3.2"/>`,
		"bridge":      `<path d="M2.5 17h19"/><path d="M5.5 17V7M18.5 17V7"/><path d="M2.5 12c2 0 3-2 3-5 0 6 13 6 13 0 0 3 1 5 3 5"/><path d="M9.5 12v5M14.5 12v5"/>`,
		"device-type": `<rect x="3.5" y="4.5" width="17" height="15" rx="2"/><path d="M7.5 9h4M7.5 12.5h9M7.5 16h6"/>`,
		"image-type":  `<path d="M3.5 12.5V5A1.5 1.5 0 0 1 5 3.5h7.5l8 8a1.5 1.5 0 0 1 0 2.1l-6.9 6.9a1.5 1.5 0 0 1-2.1 0z"/><circle cx="8.5" cy="8.5" r="1.3"/>`,
		"people":      `<circle cx="9" cy="8" r="3.5"/><path d="M2.5 20c.5-4 3-6 6.5-6s6 2 6.5 6"/><path d="M16 4.8a3.5 3.5 0 0 1 0 6.4M18 14.5c2 .8 3.2 2.6 3.5 5.5"/>`,
		"audit":       `<path d="M6 3.5h9l4 4V20a.5.5 0 0 1-.5.5h-12A1.5 1.5 0 0 1 5 19V4.5A1 1 0 0 1 6 3.5z"/><path d="M8.5 9.5h4M8.5 13h7M8.5 16.5h7"/>`,
		"storage":     `<ellipse cx="12" cy="6" rx="7.5" ry="3"/><path d="M4.5 6v12c0 1.7 3.4 3 7.5 3s7.5-1.3 7.5-3V6"/><path d="M4.5 12c0 1.7 3.4 3 7.5 3s7.5-1.3 7.5-3"/>`,
		"account":     `<circle cx="12" cy="8" r="4"/><path d="M4 20.5c.8-4.3 3.6-6.5 8-6.5s7.2 2.2 8 6.5"/>`,
		"help":        `<circle cx="12" cy="12" r="9"/><path d="M9.5 9.5c0-3.2 5-3.2 5 0 0 2-2.5 2-2.5 4"/><path d="M12 17h.01"/>`,
		"menu":        `<path d="M4 6.5h16M4 12h16M4 17.5h16"/>`,
		"close":       `<path d="m6 6 12 12M18 6 6 18"/>`,
		"search":      `<circle cx="10.5" cy="10.5" r="6.5"/><path d="m15.5 15.5 5 5"/>`,
		"plus":        `<path d="M12 5v14M5 12h14"/>`,
		"check":       `<path d="m4.5 12.5 5 5 10-11"/>`,
		"warning":     `<path d="M12 4 2.8 19.5h18.4z"/><path d="M12 10v4.5M12 17h.01"/>`,
		"info":        `<circle cx="12" cy="12" r="9"/><path d="M12 11v5.5M12 7.5h.01"/>`,
		"clock":       `<circle cx="12" cy="12" r="9"/><path d="M12 7v5.5l3.5 2"/>`,
		"play":        `<path d="M7 4.5v15l12-7.5z"/>`,
		"pause":       `<path d="M8 5v14M16 5v14"/>`,
		"stop":        `<rect x="6" y="6" width="12" height="12" rx="1.5"/>`,
		"retry":       `<path d="M20 12a8 8 0 1 1-2.5-5.8"/><path d="M20 3.5V8h-4.5"/>`,
		"upload":      `<path d="M12 16V4"/><path d="m7.5 8.5 4.5-4.5 4.5 4.5"/><path d="M4 16v2.5A2.5 2.5 0 0 0 6.5 21h11a2.5 2.5 0 0 0 2.5-2.5V16"/>`,
		"download":    `<path d="M12 4v12"/><path d="m7.5 11.5 4.5 4.5 4.5-4.5"/><path d="M4 20.5h16"/>`,
		"trash":       `<path d="M4 6.5h16M9.5 6.5V4h5v2.5M6 6.5 7 20.5h10l1-14"/><path d="M10 10.5v6M14 10.5v6"/>`,
		"edit":        `<path d="M4 20h4L19.5 8.5l-4-4L4 16z"/><path d="m13 7 4 4"/>`,
		"key":         `<circle cx="8" cy="15.5" r="4.5"/><path d="m11.5 12 8.5-8.5M16.5 7l3 3"/>`,
		"copy":        `<rect x="8" y="8" width="12.5" height="12.5" rx="2"/><path d="M16 8V5.5A2 2 0 0 0 14 3.5H5.5a2 2 0 0 0-2 2V14a2 2 0 0 0 2 2H8"/>`,
		"archive":     `<rect x="3" y="4" width="18" height="5" rx="1"/><path d="M5 9v10.5a1 1 0 0 0 1 1h12a1 1 0 0 0 1-1V9M10 13h4"/>`,
		"sign-out":    `<path d="M14 4H6a1.5 1.5 0 0 0-1.5 1.5v13A1.5 1.5 0 0 0 6 20h8"/><path d="M10 12h11M17 8l4 4-4 4"/>`,
		"theme":       `<circle cx="12" cy="12" r="9"/><path d="M12 3v18a9 9 0 0 0 0-18z" fill="currentColor"/>`,
		"next":        `<path d="m9 5 7 7-7 7"/>`,
		"back":        `<path d="m15 5-7 7 7 7"/>`,
		"filter":      `<path d="M4 5h16l-6.5 8v5.5l-3 1.5v-7z"/>`,
		"external":    `<path d="M14 4h6v6M20 4l-9 9"/><path d="M18 14v5a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V7a1 1 0 0 1 1-1h5"/>`,
		"chart":       `<path d="M4 4v16h16"/><path d="M8 16v-4M12 16V8M16 16v-6"/>`,
		"folder":      `<path d="M3.5 6A1.5 1.5 0 0 1 5 4.5h4.5l2 2.5H19A1.5 1.5 0 0 1 20.5 8.5v9A1.5 1.5 0 0 1 19 19H5a1.5 1.5 0 0 1-1.5-1.5z"/>`,
	}
}
