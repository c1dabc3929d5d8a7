package web

// parts register the routes of each kind of page.
func (c *Console) parts() []func() {
	return []func(){
		c.homeRoutes,
	}
}
