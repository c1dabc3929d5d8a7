package web

import (
	"errors"
	"fmt"
	"net/http"

	"davit/gateway"
	"davit/gateway/people"
	"davit/orchestrator"
)

const wizardPath = "/welcome/image-types"

func (c *Console) welcomeRoutes() {
	c.public("GET /welcome", (*visit).welcomePage)
	c.public("POST /welcome", (*visit).makeFirstAdmin)
	c.handle("GET "+wizardPath, "create-image-type", (*visit).wizardPage)
	c.handle("POST "+wizardPath, "create-image-type", (*visit).runWizard)
}

// welcomePage is the first page of a new system, while it has no users.
func (v *visit) welcomePage() error { return v.showWelcome(newForm()) }

func (v *visit) showWelcome(f *form) error {
	empty, err := v.people.Empty(v.ctx())
	if err != nil {
		return err
	}
	if !empty {
		v.goTo("/")
		return nil
	}
	return v.render("welcome", page{
		Title: "Welcome to davit", Bare: true, Form: f,
		Lead: "Nobody can sign in yet. Make the first administrator, who can then let others in.",
	})
}

func (v *visit) makeFirstAdmin() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	if f.Raw("password") != f.Raw("again") {
		f.Reject("again", "the two passwords differ")
		return v.showWelcome(f)
	}
	session, err := v.people.FirstAdmin(v.ctx(), f.Get("admin_token"), people.NewUser{
		Name: f.Get("name"), DisplayName: f.Get("display_name"), Role: people.RoleAdmin, Password: f.Raw("password"),
	}, gateway.ClientAddress(v.r))
	if err != nil {
		if !f.takeSignIn(err, v.now()) {
			return err
		}
		return v.showWelcome(f)
	}
	return v.begin(session, "/")
}

// suggestion is an image type that the wizard offers.
type suggestion struct {
	ID, Name, Description string
	Checked               bool
}

func suggestions() []suggestion {
	return []suggestion{
		{"application", "Application", "The product's own firmware, which most updates are about.", true},
		{"bootloader", "Bootloader", "What starts the application and installs it. Updated seldom, and with care.", true},
		{"graphics", "Graphics", "Pictures, fonts and texts of a display, in a memory of their own.", false},
	}
}

// wizardView is what the wizard shows.
type wizardView struct {
	Suggested []suggestion
	// Own are numbers of rows for image types of one's own.
	Own []int
}

func (v *visit) wizardPage() error {
	f := newForm()
	for _, s := range suggestions() {
		if s.Checked {
			f.Values.Add("suggested", s.ID)
		}
	}
	return v.showWizard(f)
}

func (v *visit) showWizard(f *form) error {
	types, _, err := v.service.ImageTypes(v.ctx(), orchestrator.Page{Limit: 1})
	if err != nil {
		return err
	}
	if len(types) > 0 && !f.Bad() {
		v.goTo("/image-types")
		return nil
	}
	return v.render("welcome-image-types", page{
		Title: "What firmware do your products have?", Bare: true, Form: f,
		Lead: "An image type is a category of firmware, such as the application or the bootloader. Devices report a version for each, and images belong to one.",
		Data: wizardView{suggestions(), []int{1, 2, 3}},
	})
}

func (v *visit) runWizard() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	var wanted []orchestrator.NewImageType
	for _, s := range suggestions() {
		if f.Has("suggested", s.ID) {
			wanted = append(wanted, orchestrator.NewImageType{ID: s.ID, Name: s.Name, Description: s.Description})
		}
	}
	for i := 1; i <= 3; i++ {
		if id := f.Get(fmt.Sprintf("id-%d", i)); id != "" {
			wanted = append(wanted, orchestrator.NewImageType{ID: id, Name: f.Get(fmt.Sprintf("name-%d", i))})
		}
	}
	if len(wanted) == 0 {
		f.status, f.Notice = http.StatusUnprocessableEntity, "Tick at least one, or write the id of your own."
		return v.showWizard(f)
	}
	for _, n := range wanted {
		_, err := v.service.CreateImageType(v.ctx(), n)
		if errors.Is(err, orchestrator.ErrExists) {
			continue // made by the attempt before this one
		}
		if err != nil && explainable(err) {
			f.Take(err)
			f.Notice = "The image type " + n.ID + " was not created."
			return v.showWizard(f)
		}
		if err != nil {
			return err
		}
	}
	return v.redirect("/", "The image types are there. Next, say which of them your products take: create a device type.")
}
