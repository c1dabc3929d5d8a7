package web

import (
	"davit/gateway"
	"davit/orchestrator"
)

const bridgesPath = "/bridges"

func (c *Console) bridgeRoutes() {
	c.handle("GET /bridges", "list-bridges", (*visit).bridgeList)
	c.handle("POST /bridges", "create-bridge", (*visit).createBridge)
	c.handle("GET /bridges/{id}", "get-bridge", (*visit).bridgePage)
	c.handle("POST /bridges/{id}/devices", "change-bridge", (*visit).changeBridge)
	c.handle("POST /bridges/{id}/order-rotation", "order-rotation", (*visit).orderBridgeRotation)
	c.handle("POST /bridges/{id}/rotate", "rotate-bridge-credentials", (*visit).rotateBridge)
	c.handle("POST /bridges/{id}/delete", "delete-bridge", (*visit).deleteBridge)
}

func (v *visit) bridgeList() error { return v.showBridges(newForm()) }

func (v *visit) showBridges(f *form) error {
	bridges, next, err := v.provision.Bridges(v.ctx(), orchestrator.Page{After: v.after(), Limit: pageSize})
	if err != nil {
		return err
	}
	return v.render("bridges", page{
		Title: "Bridges", Nav: bridgesPath, Form: f,
		Lead: "Programs on a gateway that act as the module of devices on serial ports.",
		Data: struct {
			Bridges []gateway.Bridge
			Pager   pager
		}{bridges, v.pager(next)},
	})
}

func (v *visit) createBridge() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	b, password, err := v.provision.AddBridge(v.ctx(), f.Get("id"), f.members())
	if f.Take(err) {
		return v.showBridges(f)
	}
	if err != nil {
		return err
	}
	return v.showCredentials(credentialsPage{
		Title: "Bridge " + b.ID + " is registered", Nav: bridgesPath, Back: bridgesPath + "/" + b.ID, BackText: "To the bridge",
		Names: []string{b.ID}, Passwords: map[string]string{b.ID: password}, Bridge: true,
	})
}

func (v *visit) bridgePage() error { return v.showBridge(newForm()) }

func (v *visit) showBridge(f *form) error {
	b, err := v.provision.Bridge(v.ctx(), v.path("id"))
	if err != nil {
		return err
	}
	return v.render("bridge", page{Title: b.ID, Lead: "Bridge", Nav: bridgesPath, Form: f, Crumbs: []crumb{{"Bridges", bridgesPath}}, Data: b})
}

// changeBridge takes the ticked devices off the list and adds those that were typed,
// so that changes that others make at the same time are kept.
func (v *visit) changeBridge() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	b, err := v.provision.ChangeBridge(v.ctx(), v.path("id"), gateway.BridgePatch{AddDevices: f.Words("devices"), RemoveDevices: f.All("remove")})
	if f.Take(err) {
		return v.showBridge(f)
	}
	if err != nil {
		return err
	}
	return v.redirect(bridgesPath+"/"+b.ID, "Bridge "+b.ID+" acts for "+plural(len(b.Devices), "device")+" now.")
}

// orderBridgeRotation has a bridge change its password by itself.
func (v *visit) orderBridgeRotation() error {
	id := v.path("id")
	_, err := v.provision.OrderRotation(v.ctx(), gateway.NewRotation{Bridges: []string{id}})
	return v.outcome(err, bridgesPath+"/"+id, "Bridge "+id+" is to change its password; the present one stays good until it has.")
}

func (v *visit) rotateBridge() error {
	id := v.path("id")
	b, password, err := v.provision.RotateBridge(v.ctx(), id)
	if err != nil {
		return v.outcome(err, bridgesPath, "")
	}
	return v.showCredentials(credentialsPage{
		Title: "New password for " + b.ID, Nav: bridgesPath, Back: bridgesPath + "/" + b.ID, BackText: "To the bridge",
		Names: []string{b.ID}, Passwords: map[string]string{b.ID: password}, Rotated: true, Bridge: true,
	})
}

func (v *visit) deleteBridge() error {
	id := v.path("id")
	if err := v.provision.RemoveBridge(v.ctx(), id); err != nil {
		return v.outcome(err, bridgesPath, "")
	}
	return v.redirect(bridgesPath, "Bridge "+id+" is removed; its devices stay.")
}
