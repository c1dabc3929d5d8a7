package web

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"davit/gateway"
	"davit/orchestrator"
	"davit/schemas"
)

const (
	devicesPath = "/devices"
	// newDevicePath is, like all forms of what does not exist yet, outside of the paths of
	// records: a device may be called "new".
	newDevicePath = "/new/device"
)

func (c *Console) deviceRoutes() {
	c.handle("GET /devices", "list-devices", (*visit).deviceList)
	c.handle("GET "+newDevicePath, "create-device", (*visit).newDevice)
	c.handle("POST "+newDevicePath, "create-device", (*visit).createDevice)
	c.handle("GET /devices/{id}", "get-device", (*visit).devicePage, "list-device-executions")
	c.handle("POST /devices/{id}/labels", "change-device", (*visit).changeDevice)
	c.handle("POST /devices/{id}/order-rotation", "order-rotation", (*visit).orderDeviceRotation)
	c.handle("POST /devices/{id}/rotate", "rotate-device-credentials", (*visit).rotateDevice)
	c.handle("POST /devices/{id}/quarantine", "quarantine-device", (*visit).quarantineDevice)
	c.handle("POST /devices/{id}/release", "release-device", (*visit).releaseDevice)
	c.handle("POST /devices/{id}/delete", "delete-device", (*visit).deleteDevice)
}

// deviceList is what the list of devices shows.
type deviceList struct {
	Devices  []orchestrator.DeviceDetail
	Types    []option
	Groups   []option
	Online   []option
	Filtered bool
	More     bool // the filters that are shown on request are in use
	Pager    pager
}

func (v *visit) deviceList() error {
	f := v.filters("q", "type", "group", "label", "version", "online", "query")
	filter := orchestrator.DeviceFilter{
		Text: f.Get("q"), Type: f.Get("type"), Group: f.Get("group"), Label: f.Get("label"), Version: f.Get("version"), Query: f.Get("query"),
	}
	switch f.Get("online") {
	case "yes":
		filter.Online = new(true)
	case "no":
		filter.Online = new(false)
	}
	data := deviceList{
		Online:   []option{{"", "Any"}, {"yes", "Online"}, {"no", "Offline"}},
		Filtered: f.any(),
		More:     filter.Label != "" || filter.Version != "" || filter.Query != "",
	}
	devices, next, err := v.service.DeviceDetails(v.ctx(), filter, orchestrator.Page{After: v.after(), Limit: pageSize})
	if err != nil && !f.Take(err) {
		return err
	}
	data.Devices, data.Pager = devices, v.pager(next)
	if data.Types, err = v.deviceTypeOptions(option{"", "Any"}); err != nil {
		return err
	}
	if data.Groups, err = v.groupOptions(); err != nil {
		return err
	}
	return v.render("devices", page{
		Title: "Devices", Nav: devicesPath, Form: f, Data: data, Lead: "The connected modules and the host MCUs behind them.",
		Live: live{Kinds: []string{orchestrator.KindDevice, orchestrator.KindExecution, orchestrator.KindGroup}},
	})
}

// filters reads the filters of a list from the query.
func (v *visit) filters(names ...string) *form {
	f := newForm()
	for _, n := range names {
		if s := v.query(n); s != "" {
			f.Values.Set(n, s)
		}
	}
	return f
}

// any says whether anything was typed.
func (f *form) any() bool { return len(f.Values) > 0 }

func (v *visit) newDevice() error {
	return v.deviceForm(newForm("type", v.query("type")))
}

func (v *visit) deviceForm(f *form) error {
	types, err := v.deviceTypeOptions()
	if err != nil {
		return err
	}
	return v.render("device-new", page{
		Title: "New device", Nav: devicesPath, Form: f, Data: types, Crumbs: []crumb{{"Devices", devicesPath}},
		Lead: "Its module gets a password for the broker, which is shown once.",
	})
}

func (v *visit) createDevice() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	labels, err := parseLabels(f.Get("labels"))
	if err != nil {
		f.Reject("labels", err.Error())
		return v.deviceForm(f)
	}
	d, password, err := v.provision.AddDevice(v.ctx(), orchestrator.NewDevice{ID: f.Get("id"), Type: f.Get("type"), Labels: labels})
	if f.Take(err) {
		return v.deviceForm(f)
	}
	if err != nil {
		return err
	}
	return v.showCredentials(credentialsPage{
		Title: "Device " + d.ID + " is registered", Nav: devicesPath, Back: devicesPath + "/" + d.ID, BackText: "To the device",
		Again: newDevicePath + "?type=" + d.Type, AgainText: "Register another",
		Names: []string{d.ID}, Passwords: map[string]string{d.ID: password},
	})
}

// parseLabels reads labels from text: one a line, NAME=VALUE or NAME.
func parseLabels(text string) (map[string]string, error) {
	labels := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		name, value, _ := strings.Cut(line, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if name == "" {
			return nil, fmt.Errorf("the line %q has no name before the =", line)
		}
		if _, twice := labels[name]; twice {
			return nil, fmt.Errorf("the label %q is there twice", name)
		}
		labels[name] = value
	}
	return labels, nil
}

func labelText(labels map[string]string) string {
	lines := make([]string, 0, len(labels))
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		lines = append(lines, name+"="+labels[name])
	}
	return strings.Join(lines, "\n")
}

// deviceView is what the page of a device shows.
type deviceView struct {
	orchestrator.DeviceDetail
	TypeName string
	// TypeDialect is what the host MCU speaks, as the device's type says.
	TypeDialect string
	// Login is how its password stands; nil if it has none.
	Login *gateway.LoginState
	// Running is a row for each image type that the device's type takes or that
	// the device reports.
	Running []versionRow
	History []orchestrator.Execution
	Pager   pager
}

type versionRow struct {
	ImageType, Version string
	Confirmed          bool
	// Number is what the host MCU reports for the version; 0 if it reports texts, or
	// a number that no image has.
	Number uint64
	// Stranger says that the number reported is one that no image has.
	Stranger bool
	// Enabled says whether the device's type takes the image type.
	Enabled bool
}

func (v *visit) devicePage() error { return v.showDevice(v.path("id"), nil) }

// showDevice shows a device, with what was typed into the form of its labels if
// that was refused.
func (v *visit) showDevice(id string, f *form) error {
	d, err := v.service.DeviceDetail(v.ctx(), id)
	if err != nil {
		return err
	}
	data := deviceView{DeviceDetail: d, TypeName: d.Type}
	t, err := v.service.DeviceType(v.ctx(), d.Type)
	if err != nil && !errors.Is(err, orchestrator.ErrNotFound) {
		return err
	}
	if t.Name != "" {
		data.TypeName, data.TypeDialect = t.Name, t.Dialect
	}
	var numbers map[string]uint64
	if t.Dialect == orchestrator.DialectAfero {
		if numbers, err = v.service.VersionIDs(v.ctx(), d.Versions); err != nil {
			return err
		}
	}
	data.Running = versionRows(t, d.Device, numbers)
	history, next, err := v.service.DeviceExecutions(v.ctx(), id, orchestrator.Page{After: v.after(), Limit: 20})
	if err != nil {
		return err
	}
	data.History, data.Pager = history, v.pager(next)
	if data.Login, err = v.provision.Login(v.ctx(), id); err != nil {
		return err
	}
	if f == nil {
		f = newForm("labels", labelText(d.Labels))
		f.Refresh(d.Revision)
	} else if f.Stale {
		f.Refresh(d.Revision)
	}
	return v.render("device", page{
		Title: d.ID, Lead: data.TypeName, Nav: devicesPath, Crumbs: []crumb{{"Devices", devicesPath}}, Form: f, Data: data,
		Live: live{Kinds: []string{orchestrator.KindDevice, orchestrator.KindExecution}, Device: d.ID},
	})
}

// versionRows are what a device reports; numbers are nil if its type does not
// report versions by number.
func versionRows(t orchestrator.DeviceType, d orchestrator.Device, numbers map[string]uint64) []versionRow {
	var rows []versionRow
	seen := map[string]bool{}
	add := func(id string, enabled bool) {
		seen[id] = true
		row := versionRow{ImageType: id, Version: d.Versions[id], Confirmed: !slices.Contains(d.Unconfirmed, id), Number: numbers[id], Enabled: enabled}
		row.Stranger = numbers != nil && row.Version != "" && row.Number == 0
		rows = append(rows, row)
	}
	for _, e := range t.ImageTypes {
		add(e.ID, true)
	}
	for _, id := range slices.Sorted(maps.Keys(d.Versions)) {
		if !seen[id] {
			add(id, false)
		}
	}
	return rows
}

// Final says whether the execution has ended.
func (deviceView) Final(s schemas.State) bool { return s.Final() }

func (v *visit) changeDevice() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	id := v.path("id")
	labels, err := parseLabels(f.Get("labels"))
	if err != nil {
		f.Reject("labels", err.Error())
		return v.showDevice(id, f)
	}
	_, err = v.service.UpdateDevice(v.ctx(), id, orchestrator.DevicePatch{Precondition: f.Precondition(), Labels: &labels})
	if errors.Is(err, orchestrator.ErrNotFound) {
		return err
	}
	if f.Take(err) {
		return v.showDevice(id, f)
	}
	if err != nil {
		return err
	}
	return v.redirect(devicesPath+"/"+id, "The labels are saved.")
}

// orderDeviceRotation has a device change its password by itself.
func (v *visit) orderDeviceRotation() error {
	id := v.path("id")
	_, err := v.provision.OrderRotation(v.ctx(), gateway.NewRotation{Devices: []string{id}})
	return v.outcome(err, devicesPath+"/"+id, "Device "+id+" is to change its password; the present one stays good until it has.")
}

func (v *visit) rotateDevice() error {
	id := v.path("id")
	d, password, err := v.provision.RotateDevice(v.ctx(), id)
	if err != nil {
		return v.outcome(err, devicesPath+"/"+id, "")
	}
	return v.showCredentials(credentialsPage{
		Title: "New password for " + d.ID, Nav: devicesPath, Back: devicesPath + "/" + d.ID, BackText: "To the device",
		Names: []string{d.ID}, Passwords: map[string]string{d.ID: password}, Rotated: true,
	})
}

func (v *visit) quarantineDevice() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	id := v.path("id")
	_, err = v.provision.QuarantineDevice(v.ctx(), id, f.Get("reason"))
	return v.outcome(err, devicesPath+"/"+id, "Device "+id+" is in quarantine: it is shut out until somebody releases it.")
}

func (v *visit) releaseDevice() error {
	id := v.path("id")
	_, err := v.provision.ReleaseDevice(v.ctx(), id)
	return v.outcome(err, devicesPath+"/"+id, "Device "+id+" is released.")
}

func (v *visit) deleteDevice() error {
	id := v.path("id")
	if err := v.provision.RemoveDevice(v.ctx(), id); err != nil {
		return v.outcome(err, devicesPath+"/"+id, "")
	}
	return v.redirect(devicesPath, "Device "+id+" is decommissioned; its password is not accepted any more.")
}

// credentialsPage shows new passwords, this once.
type credentialsPage struct {
	Title, Nav       string
	Back, BackText   string
	Again, AgainText string
	Names            []string
	Passwords        map[string]string
	Rotated          bool
	Bridge           bool
}

// CSV is what is downloaded: id and password, a line for each.
func (p credentialsPage) CSV() string {
	var b strings.Builder
	b.WriteString("id,password\n")
	for _, n := range p.Names {
		b.WriteString(n + "," + p.Passwords[n] + "\n")
	}
	return b.String()
}

// One says whether it is a single password.
func (p credentialsPage) One() bool { return len(p.Names) == 1 }

// Rows is how high the text is.
func (p credentialsPage) Rows() int { return min(len(p.Names)+1, 20) }

func (v *visit) showCredentials(p credentialsPage) error {
	return v.render("credentials", page{Title: p.Title, Nav: p.Nav, Data: p})
}
