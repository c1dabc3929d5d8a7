package web

import (
	"errors"

	"davit/gateway/people"
	"davit/orchestrator"
)

const peoplePath = "/people"

func (c *Console) userRoutes() {
	c.handle("GET /people", "list-users", (*visit).userList)
	c.handle("POST /people", "create-user", (*visit).createUser)
	c.handle("GET /people/{name}", "get-user", (*visit).userPage)
	c.handle("POST /people/{name}", "change-user", (*visit).changeUser)
	c.handle("POST /people/{name}/password", "change-user", (*visit).resetPassword)
	c.handle("POST /people/{name}/disabled", "change-user", (*visit).disableUser)
	c.handle("POST /people/{name}/unlock", "change-user", (*visit).unlockUser)
	c.handle("POST /people/{name}/delete", "delete-user", (*visit).deleteUser)
	c.handle("POST /people/{name}/tokens/{id}/delete", "change-user", (*visit).revokeToken)
}

// roleText says what a role may do, beyond what the one before it may.
func roleText(r people.Role) string {
	return map[people.Role]string{
		people.RoleViewer:    "Viewers look at everything but people and the audit log.",
		people.RoleOperator:  "Operators also keep devices, bridges and groups, and pause jobs.",
		people.RoleDeveloper: "Developers also keep images, image types and device types.",
		people.RoleAdmin:     "Admins also run jobs, keep people and read the audit log.",
	}[r]
}

func roleTexts() []string {
	var out []string
	for _, r := range people.Roles() {
		out = append(out, roleText(r))
	}
	return out
}

func roleOptions() []option {
	var out []option
	for _, r := range people.Roles() {
		out = append(out, option{string(r), string(r)})
	}
	return out
}

// userView is a user with what depends on the time.
type userView struct {
	people.User
	Locked bool
}

func (v *visit) userView(u people.User) userView {
	return userView{u, v.now().Before(u.LockedUntil)}
}

// Title is how the user is called.
func (u userView) Title() string {
	if u.DisplayName != "" {
		return u.DisplayName
	}
	return u.Name
}

func (v *visit) userList() error { return v.showUsers(newForm("role", string(people.RoleViewer))) }

func (v *visit) showUsers(f *form) error {
	users, next, err := v.people.Users(v.ctx(), orchestrator.Page{After: v.after(), Limit: pageSize})
	if err != nil {
		return err
	}
	data := struct {
		Users []userView
		Roles []option
		Texts []string
		OIDC  string
		Pager pager
	}{Roles: roleOptions(), Texts: roleTexts(), OIDC: v.options.OIDC, Pager: v.pager(next)}
	for _, u := range users {
		data.Users = append(data.Users, v.userView(u))
	}
	return v.render("people", page{Title: "People", Nav: peoplePath, Lead: "Who may sign in, and what each may do.", Form: f, Data: data})
}

func (v *visit) createUser() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	u, err := v.people.CreateUser(v.ctx(), people.NewUser{
		Name: f.Get("name"), DisplayName: f.Get("display_name"), Email: f.Get("email"), Role: people.Role(f.Get("role")), Password: f.Raw("password"),
	})
	if f.Take(err) {
		return v.showUsers(f)
	}
	if err != nil {
		return err
	}
	return v.redirect(peoplePath, u.Name+" may sign in now.")
}

func (v *visit) userPage() error {
	return v.showUser(nil)
}

// showUser shows a user, with what was typed into the form that was refused.
func (v *visit) showUser(f *form) error {
	u, err := v.people.User(v.ctx(), v.path("name"))
	if err != nil {
		return err
	}
	tokens, next, err := v.people.Tokens(v.ctx(), u.Name, orchestrator.Page{After: v.after(), Limit: pageSize})
	if err != nil {
		return err
	}
	if f == nil {
		f = newForm("display_name", u.DisplayName, "email", u.Email, "role", string(u.Role))
	}
	if f.Revision() == nil || f.Stale {
		f.Refresh(u.Revision)
	}
	user := v.userView(u)
	return v.render("person", page{
		Title: user.Title(), Lead: "Signs in as " + u.Name, Nav: peoplePath, Crumbs: []crumb{{"People", peoplePath}}, Form: f,
		Data: struct {
			User   userView
			Own    bool
			Roles  []option
			Texts  []string
			Tokens []people.Token
			Pager  pager
		}{user, u.Name == v.who.User, roleOptions(), roleTexts(), tokens, v.pager(next)},
	})
}

func (v *visit) patchUser(f *form, p people.UserPatch, done string) error {
	name := v.path("name")
	p.IfRevision = f.Revision()
	_, err := v.people.UpdateUser(v.ctx(), name, p)
	if errors.Is(err, orchestrator.ErrNotFound) {
		return err
	}
	if f.Take(err) {
		return v.showUser(f)
	}
	if err != nil {
		return err
	}
	return v.redirect(peoplePath+"/"+name, done)
}

func (v *visit) changeUser() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	role := people.Role(f.Get("role"))
	return v.patchUser(f, people.UserPatch{DisplayName: f.Ptr("display_name"), Email: f.Ptr("email"), Role: &role}, "The changes are saved.")
}

func (v *visit) resetPassword() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	name := v.path("name")
	_, err = v.people.UpdateUser(v.ctx(), name, people.UserPatch{Password: new(f.Raw("password"))})
	return v.outcome(err, peoplePath+"/"+name, "The password is changed; all sessions of "+name+" have ended.")
}

func (v *visit) disableUser() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	name, disabled := v.path("name"), f.Get("disabled") == "yes"
	_, err = v.people.UpdateUser(v.ctx(), name, people.UserPatch{Disabled: &disabled})
	done := name + " may sign in again."
	if disabled {
		done = name + " may not sign in any more; sessions and tokens are refused."
	}
	return v.outcome(err, peoplePath+"/"+name, done)
}

func (v *visit) unlockUser() error {
	name := v.path("name")
	_, err := v.people.UpdateUser(v.ctx(), name, people.UserPatch{Unlock: new(true)})
	return v.outcome(err, peoplePath+"/"+name, name+" is unlocked.")
}

func (v *visit) deleteUser() error {
	name := v.path("name")
	if err := v.people.DeleteUser(v.ctx(), name); err != nil {
		return v.outcome(err, peoplePath+"/"+name, "")
	}
	return v.redirect(peoplePath, name+" is deleted; the audit log keeps what was done under that name.")
}

func (v *visit) revokeToken() error {
	name := v.path("name")
	return v.outcome(v.people.DeleteToken(v.ctx(), name, v.path("id")), peoplePath+"/"+name, "The token is revoked.")
}
