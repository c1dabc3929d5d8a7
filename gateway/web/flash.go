package web

import (
	"encoding/base64"
	"encoding/json"
	"net/http"

	"davit/gateway"
)

// flash is a message that the next page shows once. It travels in a cookie of the
// browser's own, so the server keeps nothing.
type flash struct {
	Kind string `json:"kind"`
	Text string `json:"text"`
}

// The kinds of flash.
const (
	flashOK    = "ok"
	flashError = "error"
)

const (
	flashCookie = "davit_flash"
	maxFlash    = 2000 // bytes; browsers keep cookies of 4096
)

func (v *visit) flash(f flash) {
	if len(f.Text) > maxFlash {
		f.Text = f.Text[:maxFlash] + "…"
	}
	b, err := json.Marshal(f)
	if err != nil {
		return // two strings always marshal
	}
	http.SetCookie(v.w, &http.Cookie{
		Name: flashCookie, Value: base64.RawURLEncoding.EncodeToString(b), Path: "/", MaxAge: 60,
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: gateway.ClientSecure(v.r),
	})
}

// takeFlash returns the message that waits for this page, nil if there is none.
func (v *visit) takeFlash() *flash {
	cookie, err := v.r.Cookie(flashCookie)
	if err != nil || v.isPartial() {
		return nil
	}
	http.SetCookie(v.w, &http.Cookie{Name: flashCookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: gateway.ClientSecure(v.r)})
	var f flash
	b, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err != nil || json.Unmarshal(b, &f) != nil || f.Kind != flashOK && f.Kind != flashError {
		return nil
	}
	return &f
}
