package web

// homeRoutes are those of the overview.
func (c *Console) homeRoutes() {
	c.handle("GET /{$}", "get-fleet", c.home, "watch-events")
}

func (c *Console) home(v *visit) error {
	fleet, err := v.service.Fleet(v.ctx())
	if err != nil {
		return err
	}
	return v.render("home", page{Title: "Overview", Nav: "/", Live: live{Kinds: []string{"device", "job", "image"}}, Data: fleet})
}
