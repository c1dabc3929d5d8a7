package web

func (c *Console) helpRoutes() {
	c.signedIn("GET /help", func(v *visit) error {
		return v.render("help", page{Title: "Help", Nav: "/help", Lead: "davit " + v.options.Version, Data: roleTexts()})
	})
}
