package web

// parts register the routes of each kind of page.
func (c *Console) parts() []func() {
	return []func(){
		c.homeRoutes, c.welcomeRoutes, c.signInRoutes, c.helpRoutes,
		c.jobRoutes, c.rolloutRoutes, c.newJobRoutes, c.imageRoutes, c.uploadRoutes,
		c.deviceRoutes, c.importRoutes, c.groupRoutes, c.bridgeRoutes, c.claimRoutes,
		c.deviceTypeRoutes, c.imageTypeRoutes,
		c.userRoutes, c.accountRoutes, c.auditRoutes, c.storageRoutes,
	}
}
