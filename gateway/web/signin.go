package web

import (
	"errors"
	"net/http"
	"time"

	"davit/gateway"
	"davit/gateway/people"
	"davit/orchestrator"
)

func (c *Console) signInRoutes() {
	c.public("GET /sign-in", (*visit).signInPage)
	c.public("POST /sign-in", (*visit).signIn)
	c.public("POST /sign-out", (*visit).signOut)
}

// signInView is what the sign-in page shows.
type signInView struct {
	OIDC string
	Next string
}

func (v *visit) signInPage() error {
	if v.signed {
		v.goTo(gateway.LocalPath(v.query("next"), "/"))
		return nil
	}
	if empty, err := v.people.Empty(v.ctx()); err != nil {
		return err
	} else if empty {
		v.goTo("/welcome")
		return nil
	}
	f := newForm()
	switch v.query("problem") {
	case "":
	case "oidc":
		f.Notice = "Signing in through " + v.options.OIDC + " did not work. Try again, or ask an administrator whether you have a user here."
	}
	return v.showSignIn(f, v.query("next"))
}

func (v *visit) showSignIn(f *form, next string) error {
	return v.render("sign-in", page{Title: "Sign in", Bare: true, Form: f, Data: signInView{v.options.OIDC, gateway.LocalPath(next, "/")}})
}

func (v *visit) signIn() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	session, err := v.people.SignIn(v.ctx(), f.Get("name"), f.Raw("password"), gateway.ClientAddress(v.r))
	if err != nil {
		if !f.takeSignIn(err, v.now()) {
			return err
		}
		return v.showSignIn(f, f.Get("next"))
	}
	return v.begin(session, f.Get("next"))
}

// takeSignIn notes why signing in was refused, and says whether it could.
func (f *form) takeSignIn(err error, now time.Time) bool {
	var locked *people.LockedError
	switch {
	case errors.Is(err, people.ErrSignIn):
		f.status, f.Notice = http.StatusUnauthorized, "The name or the password is wrong."
	case errors.As(err, &locked):
		f.status = http.StatusTooManyRequests
		f.Notice = "Too many wrong passwords: this name is locked for another " + duration(locked.Until.Sub(now).Truncate(time.Second)+time.Second) + ". An administrator can unlock it before."
	case errors.Is(err, people.ErrTooManyTries):
		f.status, f.Notice = http.StatusTooManyRequests, asSentence(err.Error())
	default:
		return f.Take(err)
	}
	return true
}

// begin signs the browser in and goes on: on a system without image types to the
// wizard that makes the first ones.
func (v *visit) begin(s people.Session, next string) error {
	if err := gateway.EndSession(v.r, v.people); err != nil {
		return err
	}
	gateway.SetSessionCookie(v.w, v.r, s)
	to := gateway.LocalPath(next, "/")
	if s.Principal.Allowed("create-image-type") {
		types, _, err := v.service.ImageTypes(v.ctx(), orchestrator.Page{Limit: 1})
		if err != nil {
			return err
		}
		if len(types) == 0 {
			to = wizardPath
		}
	}
	v.goTo(to)
	return nil
}

func (v *visit) signOut() error {
	if err := gateway.EndSession(v.r, v.people); err != nil {
		return err
	}
	gateway.ClearSessionCookie(v.w, v.r)
	return v.redirect("/sign-in", "You are signed out.")
}
