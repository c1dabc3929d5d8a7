package gateway

import (
	"context"
	"errors"
	"fmt"

	"davit/orchestrator"
)

// maxImport is how many devices one import may have.
const maxImport = 10_000

// ImportLine is one line of an import, and what became of it.
type ImportLine struct {
	Line     int    `json:"line" doc:"The line of the CSV file, or the place in the JSON list, counted from 1"`
	ID       string `json:"id" doc:"The device's id, as it was read"`
	Result   string `json:"result" doc:"created; or without an import: ok if nothing is wrong with the line, error otherwise"`
	Error    string `json:"error,omitempty" doc:"What is wrong with the line"`
	Password string `json:"password,omitempty" doc:"The MQTT password of the device, whose user name is its id; it is kept nowhere and shown this once"`
}

// The results of a line.
const (
	ImportCreated = "created"
	ImportOK      = "ok"
	ImportError   = "error"
)

// ImportReport says what an import has done, line by line.
type ImportReport struct {
	DryRun   bool         `json:"dry_run,omitempty" doc:"Nothing was to be done"`
	Imported int          `json:"imported" doc:"How many devices were created: all or none"`
	Wrong    int          `json:"wrong" doc:"How many lines are wrong"`
	Lines    []ImportLine `json:"lines" nullable:"false" doc:"Every line"`

	causes map[int]error // by place in Lines
}

// fail notes what is wrong with a line; the first finding stays.
func (r *ImportReport) fail(i int, err error) {
	if r.causes == nil {
		r.causes = map[int]error{}
	}
	if r.causes[i] != nil {
		return
	}
	r.causes[i] = err
	r.Wrong++
	r.Lines[i].Result, r.Lines[i].Error = ImportError, sentence(err)
}

// DeviceList is a list of devices to be imported and where each was read.
type DeviceList struct {
	Devices []orchestrator.NewDevice
	// Lines has the line of each device.
	Lines []int
	// Wrong are lines of a file that could not be read as a device, by place in
	// Devices.
	Wrong map[int]error
}

// Import makes a list of devices known, all or none, and gives them passwords
// if they are to have some. What is wrong with the list stands in the report, line
// by line, and is no error.
func (p *Provisioner) Import(ctx context.Context, list DeviceList, credentials, dryRun bool) (ImportReport, error) {
	report := ImportReport{DryRun: dryRun, Lines: make([]ImportLine, len(list.Devices))}
	for i, d := range list.Devices {
		report.Lines[i] = ImportLine{Line: list.Lines[i], ID: d.ID, Result: ImportOK}
	}
	for i, err := range list.Wrong {
		report.fail(i, err)
	}
	first := map[string]int{}
	for i, l := range report.Lines {
		if at, twice := first[l.ID]; twice && l.ID != "" {
			report.fail(i, orchestrator.InvalidField("id", "%q stands in line %d already", l.ID, at))
			continue
		}
		first[l.ID] = l.Line
	}
	var made []DeviceCredentials
	var err error
	if dryRun || report.Wrong > 0 {
		err = p.CheckImport(ctx, list.Devices)
	} else {
		made, err = p.ImportDevices(ctx, list.Devices, credentials)
	}
	var batch *orchestrator.BatchError
	if errors.As(err, &batch) {
		for _, l := range batch.Lines {
			report.fail(l.Index, l.Err)
		}
		return report, nil
	}
	for i, c := range made {
		report.Lines[i].Result, report.Lines[i].Password = ImportCreated, c.Password
	}
	report.Imported = len(made)
	return report, err
}

// CheckImport says what ImportDevices would find wrong, without doing anything.
func (p *Provisioner) CheckImport(ctx context.Context, n []orchestrator.NewDevice) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.checkImport(ctx, n, p.service.CheckDevices(ctx, n))
}

// checkImport adds to what the service says of a list what credentials say.
func (p *Provisioner) checkImport(ctx context.Context, n []orchestrator.NewDevice, err error) error {
	batch := &orchestrator.BatchError{}
	if err != nil && !errors.As(err, &batch) {
		return err
	}
	bridges, err := p.credentials.Bridges(ctx)
	if err != nil {
		return err
	}
	names := map[string]bool{}
	for _, b := range bridges {
		names[b.Name] = true
	}
	for i, d := range n {
		if names[d.ID] {
			batch.Lines = append(batch.Lines, orchestrator.LineError{Index: i, Err: bridgeHasID(d.ID)})
		}
	}
	if len(batch.Lines) > 0 {
		return batch
	}
	return nil
}

// ImportDevices makes all devices known or none, and gives them passwords if
// they are to have some. A *orchestrator.BatchError says what is wrong line by
// line. Repeating an import that broke off before the passwords finishes it.
func (p *Provisioner) ImportDevices(ctx context.Context, n []orchestrator.NewDevice, credentials bool) ([]DeviceCredentials, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.checkImport(ctx, n, nil); err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(n))
	for _, d := range n {
		ids = append(ids, d.ID)
	}
	if err := p.forgetOld(ctx, ids...); err != nil {
		return nil, err
	}
	devices, err := p.service.CreateDevices(ctx, n)
	finishing := err != nil && credentials
	if finishing {
		devices, err = p.unfinishedImport(ctx, n, err)
	}
	if err != nil {
		return nil, err
	}
	passwords := map[string]string{}
	if credentials {
		if passwords, err = p.credentials.PutDevices(ctx, ids); err != nil {
			return nil, fmt.Errorf("%d devices are recorded but got no credentials; repeat the request to finish it: %w", len(n), err)
		}
	}
	if finishing { // the creation of the records is in the audit log already, the passwords are not
		if err := p.service.Audit(ctx, "rotate", orchestrator.KindDevice, "", nil, passwordsFor{len(ids), ids[:min(len(ids), 20)]}); err != nil {
			return nil, err
		}
	}
	made := make([]DeviceCredentials, 0, len(devices))
	for _, d := range devices {
		made = append(made, DeviceCredentials{Device: d, Username: d.ID, Password: passwords[d.ID]})
	}
	return made, nil
}

// passwordsFor is what the audit log has of passwords for many devices.
type passwordsFor struct {
	Count int      `json:"count"`
	First []string `json:"first"`
}

// unfinishedImport returns the records that an attempt to import the same list
// left without credentials, or the error that says what is wrong.
func (p *Provisioner) unfinishedImport(ctx context.Context, n []orchestrator.NewDevice, wrong error) ([]orchestrator.Device, error) {
	var batch *orchestrator.BatchError
	if !errors.As(wrong, &batch) || len(batch.Lines) != len(n) {
		return nil, wrong
	}
	devices := make([]orchestrator.Device, 0, len(n))
	for i, l := range batch.Lines {
		if l.Index != i || !errors.Is(l.Err, orchestrator.ErrExists) {
			return nil, wrong
		}
		_, known, err := p.credentials.Principal(ctx, n[i].ID)
		if err != nil {
			return nil, err
		}
		if known {
			return nil, wrong
		}
		d, err := p.unfinished(ctx, n[i], wrong)
		if err != nil {
			return nil, err
		}
		devices = append(devices, d)
	}
	return devices, nil
}
