package web

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"davit/orchestrator"
)

const groupsPath = "/groups"

func (c *Console) groupRoutes() {
	c.handle("GET /groups", "list-groups", (*visit).groupList)
	c.handle("GET /new/group", "create-group", (*visit).newGroup, "preview-query")
	c.handle("POST /new/group", "create-group", (*visit).createGroup)
	c.handle("GET /groups/{id}", "get-group", (*visit).groupPage, "list-group-devices")
	c.handle("GET /groups/{id}/edit", "replace-group", (*visit).editGroup)
	c.handle("POST /groups/{id}/edit", "replace-group", (*visit).changeGroup)
	c.handle("POST /groups/{id}/delete", "delete-group", (*visit).deleteGroup)
}

func (v *visit) groupList() error {
	groups, next, err := v.service.Groups(v.ctx(), orchestrator.Page{After: v.after(), Limit: pageSize})
	if err != nil {
		return err
	}
	return v.render("groups", page{
		Title: "Groups", Nav: groupsPath, Lead: "Named sets of devices, to roll out to.", Live: live{Kinds: []string{orchestrator.KindGroup}},
		Data: struct {
			Groups []orchestrator.Group
			Pager  pager
		}{groups, v.pager(next)},
	})
}

// groupForm is what the form of a group shows.
type groupForm struct {
	ID      string // of the group that is edited
	Dynamic bool
	// Ticked are devices that were ticked, which a search keeps; Offered are others
	// that it finds.
	Ticked  []string
	Offered []orchestrator.Device
	Search  string
	Preview *queryPreview
	// Path of this page, which shows previews and searches too.
	Path string
}

// queryPreview is what a query finds, or what is wrong with it.
type queryPreview struct {
	orchestrator.QueryPreview
	Error string
}

// preview looks at what a query finds; nil for none.
func (v *visit) preview(query string) (*queryPreview, error) {
	if query == "" {
		return nil, nil
	}
	const sample = 10
	p, err := v.service.PreviewQuery(v.ctx(), query, sample)
	if err != nil && explainable(err) {
		f := newForm()
		f.Take(err)
		text := f.Notice
		for _, name := range f.Fields() {
			text = f.Errors[name]
		}
		return &queryPreview{Error: text}, nil
	}
	return &queryPreview{QueryPreview: p}, err
}

// newGroup shows the form, with what its query has: previews and searches for
// devices come back here.
func (v *visit) newGroup() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	if f.Get("kind") == "" {
		f.Values.Set("kind", "dynamic")
	}
	return v.groupForm(f, "")
}

func (v *visit) groupForm(f *form, id string) error {
	data := groupForm{ID: id, Dynamic: f.Get("kind") == "dynamic", Search: f.Get("find"), Path: v.r.URL.Path}
	p := page{Title: "New group", Nav: groupsPath, Crumbs: []crumb{{"Groups", groupsPath}}, Form: f}
	if id != "" {
		p.Title, p.Crumbs = "Edit "+id, append(p.Crumbs, crumb{id, groupsPath + "/" + id})
	}
	var err error
	if data.Dynamic {
		data.Preview, err = v.preview(f.Get("query"))
	} else {
		data.Ticked = f.All("device")
		data.Offered, _, err = v.service.Devices(v.ctx(), orchestrator.DeviceFilter{Text: data.Search}, orchestrator.Page{Limit: 30})
		data.Offered = slices.DeleteFunc(data.Offered, func(d orchestrator.Device) bool { return slices.Contains(data.Ticked, d.ID) })
	}
	if err != nil {
		return err
	}
	p.Data = data
	return v.render("group-form", p)
}

// members are the devices that were typed and ticked.
func (f *form) members() []string { return append(f.Words("devices"), f.All("device")...) }

func (v *visit) createGroup() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	n := orchestrator.NewGroup{ID: f.Get("id"), Description: f.Get("description")}
	if f.Get("kind") == "dynamic" {
		if n.Query = f.Get("query"); n.Query == "" {
			f.Reject("query", "a dynamic group needs a query")
			return v.groupForm(f, "")
		}
	} else {
		n.Devices = f.members()
	}
	_, err = v.service.CreateGroup(v.ctx(), n)
	if f.Take(err) {
		return v.groupForm(f, "")
	}
	if err != nil {
		return err
	}
	return v.redirect(groupsPath+"/"+n.ID, "Group "+n.ID+" is created.")
}

// groupView is what the page of a group shows.
type groupView struct {
	orchestrator.Group
	Devices []orchestrator.Device
	Preview *queryPreview
	// Same is the list of devices with the group's query as a filter.
	Same  string
	Pager pager
}

func (v *visit) groupPage() error {
	g, err := v.service.Group(v.ctx(), v.path("id"))
	if err != nil {
		return err
	}
	data := groupView{Group: g, Same: devicesPath + "?" + url.Values{"group": {g.ID}}.Encode()}
	devices, next, err := v.service.GroupDevices(v.ctx(), g.ID, orchestrator.Page{After: v.after(), Limit: pageSize})
	if err != nil {
		return err
	}
	data.Devices, data.Pager = devices, v.pager(next)
	if data.Preview, err = v.preview(g.Query); err != nil {
		return err
	}
	return v.render("group", page{
		Title: g.ID, Lead: g.Description, Nav: groupsPath, Crumbs: []crumb{{"Groups", groupsPath}}, Data: data,
		Live: live{Kinds: []string{orchestrator.KindGroup, orchestrator.KindDevice}},
	})
}

// editGroup shows the form with the group as it is, or with what the query has:
// previews and searches for devices come back here.
func (v *visit) editGroup() error {
	g, err := v.service.Group(v.ctx(), v.path("id"))
	if err != nil {
		return err
	}
	f, err := v.form()
	if err != nil {
		return err
	}
	if f.Get("kind") == "" {
		f.Values.Set("kind", "static")
		if g.Query != "" {
			f.Values.Set("kind", "dynamic")
		}
		f.Values.Set("description", g.Description)
		f.Values.Set("query", g.Query)
		f.Values.Set("devices", strings.Join(g.Devices, "\n"))
		f.Refresh(g.Revision)
	}
	return v.groupForm(f, g.ID)
}

func (v *visit) changeGroup() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	id := v.path("id")
	patch := orchestrator.GroupPatch{Precondition: f.Precondition(), Description: f.Ptr("description")}
	if f.Get("kind") == "dynamic" {
		patch.Query = f.Ptr("query")
	} else {
		members := f.members()
		patch.Devices = &members
	}
	_, err = v.service.UpdateGroup(v.ctx(), id, patch)
	if errors.Is(err, orchestrator.ErrStale) {
		g, err := v.service.Group(v.ctx(), id)
		if err != nil {
			return err
		}
		f.Refresh(g.Revision)
	}
	if f.Take(err) {
		return v.groupForm(f, id)
	}
	if err != nil {
		return err
	}
	return v.redirect(groupsPath+"/"+id, "The group is saved.")
}

func (v *visit) deleteGroup() error {
	id := v.path("id")
	if err := v.service.DeleteGroup(v.ctx(), id); err != nil {
		return v.outcome(err, groupsPath+"/"+id, "")
	}
	return v.redirect(groupsPath, "Group "+id+" is deleted; its devices stay.")
}
