package orchestrator

// parse reads the record of a group as put writes it, whose list of devices may be
// long; false for what does not look like that.
func (g *Group) parse(rec []byte) bool {
	p := recordParser{rest: string(rec)}
	return p.object(func(key string) bool {
		switch key {
		case "id":
			return p.text(&g.ID)
		case "description":
			return p.text(&g.Description)
		case "devices":
			return p.list(&g.Devices)
		case "query":
			return p.text(&g.Query)
		case "revision":
			return p.revision(&g.Revision)
		case "created_at":
			return p.time(&g.CreatedAt)
		}
		return false
	}) && p.rest == ""
}
