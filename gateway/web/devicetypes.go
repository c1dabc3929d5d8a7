package web

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"davit/orchestrator"
)

const deviceTypesPath = "/device-types"

// dialects are the protocols that the console offers; any other can be typed.
func dialects() []string { return []string{"ayla", "afero"} }

// attributeSizes are those of the modules that are documented; any other can be
// typed.
func attributeSizes() []int { return []int{orchestrator.DefaultAttributeSize, 510, 2046} }

func (c *Console) deviceTypeRoutes() {
	c.handle("GET /device-types", "list-device-types", (*visit).deviceTypeList)
	c.handle("GET /new/device-type", "create-device-type", func(v *visit) error {
		return v.deviceTypeForm(nil, newForm("dialect", dialects()[0]))
	})
	c.handle("POST /new/device-type", "create-device-type", (*visit).createDeviceType)
	c.handle("GET /device-types/{id}", "get-device-type", (*visit).deviceTypePage)
	c.handle("POST /device-types/{id}", "change-device-type", (*visit).changeDeviceType)
	c.handle("POST /device-types/{id}/delete", "delete-device-type", (*visit).deleteDeviceType)
}

// deviceTypeRow is a device type with the number of its devices.
type deviceTypeRow struct {
	orchestrator.DeviceType
	Devices int
}

func (v *visit) deviceTypeList() error {
	types, next, err := v.service.DeviceTypes(v.ctx(), orchestrator.Page{After: v.after(), Limit: pageSize})
	if err != nil {
		return err
	}
	fleet, err := v.service.Fleet(v.ctx())
	if err != nil {
		return err
	}
	rows := make([]deviceTypeRow, 0, len(types))
	for _, dt := range types {
		rows = append(rows, deviceTypeRow{dt, fleet.ByType[dt.ID]})
	}
	imageTypes, err := v.allImageTypes()
	if err != nil {
		return err
	}
	return v.render("device-types", page{
		Title: "Device types", Nav: deviceTypesPath, Live: live{Kinds: []string{orchestrator.KindDeviceType}},
		Lead: "Classes of product: which image types they take, the protocol of their host MCU, and its time limits.",
		Data: struct {
			Rows          []deviceTypeRow
			Pager         pager
			HasImageTypes bool
		}{rows, v.pager(next), len(imageTypes) > 0},
	})
}

// imageTypeChoice is one row of a device type's form.
type imageTypeChoice struct {
	orchestrator.ImageType
	Enabled                  bool
	Property, Numeric, Limit string
	Error                    string
	// Attribute is what reports the version in the afero dialect, 0 in others.
	Attribute int
}

// Names of the row's fields.
func (c imageTypeChoice) PropertyName() string { return "property-" + c.ID }
func (c imageTypeChoice) NumericName() string  { return "numeric-" + c.ID }
func (c imageTypeChoice) LimitName() string    { return "limit-" + c.ID }

func (v *visit) deviceTypeForm(dt *orchestrator.DeviceType, f *form) error {
	all, err := v.allImageTypes()
	if err != nil {
		return err
	}
	choices := make([]imageTypeChoice, 0, len(all))
	for _, it := range all {
		c := imageTypeChoice{ImageType: it, Enabled: f.Has("enable", it.ID)}
		c.Property, c.Numeric, c.Limit = f.Get(c.PropertyName()), f.Get(c.NumericName()), f.Get(c.LimitName())
		c.Error = f.Error("image_types/" + it.ID)
		if n, err := strconv.Atoi(c.Numeric); err == nil {
			c.Attribute = orchestrator.EnabledImageType{NumericType: n}.Attribute()
		}
		choices = append(choices, c)
	}
	p := page{Title: "New device type", Nav: deviceTypesPath, Form: f, Crumbs: []crumb{{"Device types", deviceTypesPath}}}
	data := struct {
		Record   *orchestrator.DeviceType
		Choices  []imageTypeChoice
		Dialects []string
		Sizes    []int
		Devices  int
		Limits   []timeLimit
	}{Record: dt, Choices: choices, Dialects: dialects(), Sizes: attributeSizes(), Limits: timeLimits()}
	if dt != nil {
		p.Title = dt.Name
		fleet, err := v.service.Fleet(v.ctx())
		if err != nil {
			return err
		}
		data.Devices = fleet.ByType[dt.ID]
	}
	p.Data = data
	return v.render("device-type", p)
}

// timeLimit is one of a device type's limits, as its form shows it.
type timeLimit struct{ Name, Label, Help string }

func timeLimits() []timeLimit {
	return []timeLimit{
		{"hello_timeout", "Hello", "A connected device that says nothing for longer is shown as silent; 30m without a value."},
		{"answer_timeout", "Answer", "How long the host MCU may take to answer an offer."},
		{"verdict_timeout", "Verdict", "How long it may take to check a loaded image."},
		{"boot_timeout", "Boot", "How long it may take to boot."},
		{"version_timeout", "Version", "How long after booting it may take to report its version."},
	}
}

// typed reads a device type's form; what cannot be read is noted in the form.
func (f *form) deviceType() orchestrator.NewDeviceType {
	n := orchestrator.NewDeviceType{
		ID: f.Get("id"), Name: f.Get("name"), Description: f.Get("description"), Dialect: f.Get("dialect"), AttributeSize: f.attributeSize(),
		HelloTimeout: f.limit("hello_timeout"), AnswerTimeout: f.limit("answer_timeout"), VerdictTimeout: f.limit("verdict_timeout"),
		BootTimeout: f.limit("boot_timeout"), VersionTimeout: f.limit("version_timeout"), RequireSignature: f.Has("require_signature"),
	}
	for _, id := range f.All("enable") {
		e := orchestrator.EnabledImageType{ID: id, VersionProperty: f.Get("property-" + id)}
		if s := f.Get("numeric-" + id); s != "" {
			number, err := strconv.Atoi(s)
			if err != nil {
				f.Reject("image_types/"+id, fmt.Sprintf("the numeric type %q is not a number", s))
			}
			e.NumericType = number
		}
		if s := f.Get("limit-" + id); s != "" {
			limit, err := parseSize(s)
			if err != nil {
				f.Reject("image_types/"+id, err.Error())
			}
			e.SizeLimit = limit
		}
		n.ImageTypes = append(n.ImageTypes, e)
	}
	return n
}

// attributeSize reads the size of the attribute that carries an image; none is 0.
func (f *form) attributeSize() int {
	s := f.Get("attribute_size")
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		f.Reject("attribute_size", fmt.Sprintf("%q is not a number of bytes", s))
	}
	return n
}

// limit reads a length of time; none is 0.
func (f *form) limit(name string) orchestrator.Duration {
	s := f.Get(name)
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		f.Reject(name, fmt.Sprintf("%q is not a length of time; write for example 30s, 2m or 1h30m", s))
		return 0
	}
	return orchestrator.Duration(d)
}

// parseSize reads a number of bytes with or without a unit: 65536, 64 KiB, 1.5 MiB.
func parseSize(s string) (uint64, error) {
	units := []struct {
		suffix string
		factor float64
	}{{"KIB", 1 << 10}, {"MIB", 1 << 20}, {"GIB", 1 << 30}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"B", 1}}
	number, factor := strings.ToUpper(strings.TrimSpace(s)), 1.0
	for _, u := range units {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, factor = strings.TrimSpace(rest), u.factor
			break
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if bytes := n * factor; err == nil && bytes >= 0 && bytes < 1<<53 {
		return uint64(bytes), nil
	}
	return 0, fmt.Errorf("%q is not a size; write for example 262144, 256 KiB or 1 MiB", s)
}

// takeDeviceType notes an error in the form; errors of the list of image types go
// to the row that they are about.
func (f *form) takeDeviceType(n orchestrator.NewDeviceType, err error) bool {
	if !f.Take(err) {
		return false
	}
	for _, name := range f.Fields() {
		rest, ok := strings.CutPrefix(name, "image_types/")
		if !ok {
			continue
		}
		index, _, _ := strings.Cut(rest, "/")
		if i, err := strconv.Atoi(index); err == nil && i >= 0 && i < len(n.ImageTypes) {
			text := f.Errors[name]
			delete(f.Errors, name)
			f.Errors["image_types/"+n.ImageTypes[i].ID] = text
		}
	}
	return true
}

func (v *visit) createDeviceType() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	n := f.deviceType()
	if f.Bad() {
		return v.deviceTypeForm(nil, f)
	}
	dt, err := v.service.CreateDeviceType(v.ctx(), n)
	if f.takeDeviceType(n, err) {
		return v.deviceTypeForm(nil, f)
	}
	if err != nil {
		return err
	}
	return v.redirect(deviceTypesPath, "Device type "+dt.Name+" was created. Register its devices next.")
}

func (v *visit) deviceTypePage() error {
	dt, err := v.service.DeviceType(v.ctx(), v.path("id"))
	if err != nil {
		return err
	}
	f := newForm("name", dt.Name, "description", dt.Description, "dialect", dt.Dialect, "revision", fmt.Sprint(dt.Revision))
	for name, d := range map[string]orchestrator.Duration{
		"hello_timeout": dt.HelloTimeout, "answer_timeout": dt.AnswerTimeout, "verdict_timeout": dt.VerdictTimeout,
		"boot_timeout": dt.BootTimeout, "version_timeout": dt.VersionTimeout,
	} {
		if d != 0 {
			f.Values.Set(name, time.Duration(d).String())
		}
	}
	if dt.RequireSignature {
		f.Values.Set("require_signature", "on")
	}
	if dt.AttributeSize != 0 {
		f.Values.Set("attribute_size", strconv.Itoa(dt.AttributeSize))
	}
	for _, e := range dt.ImageTypes {
		f.Values.Add("enable", e.ID)
		f.Values.Set("property-"+e.ID, e.VersionProperty)
		if e.NumericType != 0 {
			f.Values.Set("numeric-"+e.ID, strconv.Itoa(e.NumericType))
		}
		if e.SizeLimit != 0 {
			f.Values.Set("limit-"+e.ID, strconv.FormatUint(e.SizeLimit, 10))
		}
	}
	return v.deviceTypeForm(&dt, f)
}

func (v *visit) changeDeviceType() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	id := v.path("id")
	n := f.deviceType()
	if !f.Bad() {
		if n.ImageTypes == nil {
			n.ImageTypes = []orchestrator.EnabledImageType{}
		}
		dt, err := v.service.UpdateDeviceType(v.ctx(), id, orchestrator.DeviceTypePatch{
			Precondition: f.Precondition(), Name: &n.Name, Description: &n.Description, Dialect: &n.Dialect, AttributeSize: &n.AttributeSize, ImageTypes: &n.ImageTypes,
			HelloTimeout: &n.HelloTimeout, AnswerTimeout: &n.AnswerTimeout, VerdictTimeout: &n.VerdictTimeout,
			BootTimeout: &n.BootTimeout, VersionTimeout: &n.VersionTimeout, RequireSignature: &n.RequireSignature,
		})
		if err == nil {
			return v.redirect(deviceTypesPath, "Device type "+dt.Name+" was saved.")
		}
		if !f.takeDeviceType(n, err) {
			return err
		}
	}
	now, err := v.service.DeviceType(v.ctx(), id)
	if err != nil {
		return err
	}
	if f.Stale {
		f.Refresh(now.Revision)
	}
	return v.deviceTypeForm(&now, f)
}

func (v *visit) deleteDeviceType() error {
	id := v.path("id")
	if err := v.service.DeleteDeviceType(v.ctx(), id); err != nil {
		return v.outcome(err, deviceTypesPath+"/"+id, "")
	}
	return v.redirect(deviceTypesPath, "Device type "+id+" was deleted.")
}
