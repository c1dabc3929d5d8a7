package web

import (
	"fmt"
	"strings"

	"davit/orchestrator"
)

const imageTypesPath = "/image-types"

func (c *Console) imageTypeRoutes() {
	c.handle("GET /image-types", "list-image-types", func(v *visit) error { return v.imageTypeList(newForm()) })
	c.handle("POST /image-types", "create-image-type", (*visit).createImageType)
	c.handle("GET /image-types/{id}", "get-image-type", (*visit).imageTypePage)
	c.handle("POST /image-types/{id}", "change-image-type", (*visit).changeImageType)
	c.handle("POST /image-types/{id}/delete", "delete-image-type", (*visit).deleteImageType)
}

// imageTypeRow is an image type with what refers to it.
type imageTypeRow struct {
	orchestrator.ImageType
	Images int
	// TakenBy are the names of the device types that take it.
	TakenBy []string
}

// allImageTypes are all image types; there are MaxImageTypes of them at most.
func (v *visit) allImageTypes() ([]orchestrator.ImageType, error) {
	all, _, err := v.service.ImageTypes(v.ctx(), orchestrator.Page{Limit: orchestrator.MaxPageLimit})
	return all, err
}

// allDeviceTypes are the device types, as many as one page of a listing has.
func (v *visit) allDeviceTypes() ([]orchestrator.DeviceType, error) {
	all, _, err := v.service.DeviceTypes(v.ctx(), orchestrator.Page{Limit: orchestrator.MaxPageLimit})
	return all, err
}

func (v *visit) imageTypeRows() ([]imageTypeRow, error) {
	all, err := v.allImageTypes()
	if err != nil {
		return nil, err
	}
	fleet, err := v.service.Fleet(v.ctx())
	if err != nil {
		return nil, err
	}
	types, err := v.allDeviceTypes()
	if err != nil {
		return nil, err
	}
	takenBy := map[string][]string{}
	for _, dt := range types {
		for _, e := range dt.ImageTypes {
			takenBy[e.ID] = append(takenBy[e.ID], dt.Name)
		}
	}
	rows := make([]imageTypeRow, 0, len(all))
	for _, it := range all {
		rows = append(rows, imageTypeRow{it, fleet.Images[it.ID], takenBy[it.ID]})
	}
	return rows, nil
}

func (v *visit) imageTypeList(f *form) error {
	rows, err := v.imageTypeRows()
	if err != nil {
		return err
	}
	return v.render("image-types", page{
		Title: "Image types", Nav: imageTypesPath, Form: f, Live: live{Kinds: []string{orchestrator.KindImageType, orchestrator.KindImage}},
		Lead: "The categories of firmware that your products take, for example application or bootloader.",
		Data: struct {
			Rows []imageTypeRow
			Max  int
		}{rows, orchestrator.MaxImageTypes},
	})
}

func (v *visit) createImageType() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	it, err := v.service.CreateImageType(v.ctx(), orchestrator.NewImageType{
		ID: f.Get("id"), Name: f.Get("name"), Description: f.Get("description"),
	})
	if f.Take(err) {
		return v.imageTypeList(f)
	}
	if err != nil {
		return err
	}
	return v.redirect(imageTypesPath, fmt.Sprintf("Image type %s was created. Enable it in the device types that take it.", it.Name))
}

func (v *visit) imageTypePage() error {
	it, err := v.service.ImageType(v.ctx(), v.path("id"))
	if err != nil {
		return err
	}
	return v.showImageType(it, newForm("name", it.Name, "description", it.Description, "revision", fmt.Sprint(it.Revision)))
}

func (v *visit) showImageType(it orchestrator.ImageType, f *form) error {
	rows, err := v.imageTypeRows()
	if err != nil {
		return err
	}
	row := imageTypeRow{ImageType: it}
	for _, r := range rows {
		if r.ID == it.ID {
			row = r
		}
	}
	return v.render("image-type", page{
		Title: it.Name, Nav: imageTypesPath, Form: f, Crumbs: []crumb{{"Image types", imageTypesPath}},
		Data: struct {
			imageTypeRow
			Why string
		}{row, row.inUse()},
	})
}

// inUse says why an image type cannot be deleted, nothing if it can.
func (r imageTypeRow) inUse() string {
	var why []string
	if r.Images > 0 {
		why = append(why, plural(r.Images, "image")+" of this type")
	}
	if n := len(r.TakenBy); n > 0 {
		why = append(why, plural(n, "device type")+" ("+strings.Join(r.TakenBy, ", ")+")")
	}
	return strings.Join(why, " and ")
}

func (v *visit) changeImageType() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	id := v.path("id")
	it, err := v.service.UpdateImageType(v.ctx(), id, orchestrator.ImageTypePatch{
		Precondition: f.Precondition(), Name: f.Ptr("name"), Description: f.Ptr("description"),
	})
	if f.Take(err) {
		now, err := v.service.ImageType(v.ctx(), id)
		if err != nil {
			return err
		}
		if f.Stale {
			f.Refresh(now.Revision)
		}
		return v.showImageType(now, f)
	}
	if err != nil {
		return err
	}
	return v.redirect(imageTypesPath, "Image type "+it.Name+" was saved.")
}

func (v *visit) deleteImageType() error {
	id := v.path("id")
	if err := v.service.DeleteImageType(v.ctx(), id); err != nil {
		return v.outcome(err, imageTypesPath+"/"+id, "")
	}
	return v.redirect(imageTypesPath, "Image type "+id+" was deleted.")
}
