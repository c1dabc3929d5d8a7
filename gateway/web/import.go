package web

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"

	"davit/gateway"
	"davit/orchestrator"
)

const (
	// maxImportFile is the longest list of devices in bytes.
	maxImportFile = 8 << 20
)

func (c *Console) importRoutes() {
	c.handle("GET /import/devices", "import-devices", (*visit).importPage)
	c.handle("POST /import/devices", "import-devices", (*visit).importDevices)
}

// importView is what the page of an import shows.
type importView struct {
	Report *gateway.ImportReport
	// Shown are the lines of the report that the page has room for, wrong ones first.
	Shown []gateway.ImportLine
	Rest  int
}

func (v *visit) importPage() error {
	return v.showImport(newForm("csv", "id,type,label.site\n", "credentials", "on"), nil)
}

func (v *visit) showImport(f *form, report *gateway.ImportReport) error {
	const most = 200
	data := importView{Report: report}
	if report != nil {
		for _, wrong := range []bool{true, false} {
			for _, l := range report.Lines {
				if (l.Result == gateway.ImportError) == wrong {
					data.Shown = append(data.Shown, l)
				}
			}
		}
		data.Rest = max(0, len(data.Shown)-most)
		data.Shown = data.Shown[:min(len(data.Shown), most)]
	}
	return v.render("device-import", page{
		Title: "Import devices", Nav: devicesPath, Crumbs: []crumb{{"Devices", devicesPath}}, Form: f, Data: data,
		Lead: "All lines are imported, or none: check the list first.",
	})
}

func (v *visit) importDevices() error {
	f, text, err := v.importForm()
	if err != nil {
		return err
	}
	if f.Bad() {
		return v.showImport(f, nil)
	}
	list, err := gateway.ReadDevicesCSV(strings.NewReader(text))
	if err != nil && explainable(err) {
		f.Reject("csv", sentence(err))
		return v.showImport(f, nil)
	}
	if err != nil {
		return err
	}
	dryRun := f.Get("do") != "import"
	report, err := v.provision.Import(v.ctx(), list, f.Has("credentials"), dryRun)
	if f.Take(err) {
		return v.showImport(f, nil)
	}
	if err != nil {
		return err
	}
	if dryRun || report.Wrong > 0 {
		return v.showImport(f, &report)
	}
	done := plural(report.Imported, "device") + " imported."
	if !f.Has("credentials") {
		return v.redirect(devicesPath, done)
	}
	shown := credentialsPage{
		Title: plural(report.Imported, "device") + " imported", Nav: devicesPath, Back: devicesPath, BackText: "To the devices", Passwords: map[string]string{},
	}
	for _, l := range report.Lines {
		shown.Names = append(shown.Names, l.ID)
		shown.Passwords[l.ID] = l.Password
	}
	return v.showCredentials(shown)
}

// importForm reads the form with its list: a file, or what was typed.
func (v *visit) importForm() (*form, string, error) {
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxImportFile+maxForm)
	f := newForm()
	err := v.r.ParseMultipartForm(maxImportFile)
	if v.r.MultipartForm != nil {
		defer func() { _ = v.r.MultipartForm.RemoveAll() }() // temporary files only
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		f.Reject("csv", fmt.Sprintf("the list is longer than %d MiB; import it in parts", maxImportFile>>20))
		return f, "", nil
	case err != nil && !errors.Is(err, http.ErrNotMultipart):
		return nil, "", fmt.Errorf("%w: the form could not be read: %w", orchestrator.ErrInvalid, err)
	}
	f.Values = v.r.Form
	text := f.Values.Get("csv")
	file, header, err := v.r.FormFile("file")
	if err != nil || header.Size == 0 {
		return f, text, nil // no file was chosen
	}
	text, err = readAll(file)
	f.Values.Set("csv", text) // shown, so that what is wrong can be mended here
	return f, text, err
}

func readAll(file multipart.File) (string, error) {
	b, err := io.ReadAll(io.LimitReader(file, maxImportFile))
	return string(bytes.ToValidUTF8(b, []byte("\uFFFD"))), errors.Join(err, file.Close())
}
