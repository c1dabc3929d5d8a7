package web

import "davit/orchestrator"

const storagePath = "/storage"

func (c *Console) storageRoutes() {
	// A backup is asked of the API itself, as an image's download is.
	c.handle("GET /storage", "get-storage", (*visit).storagePage, "take-backup")
}

// storagePage shows what the data folder takes, and offers a backup of it.
func (v *visit) storagePage() error {
	usage, err := v.options.Storage.Usage(v.ctx())
	if err != nil {
		return err
	}
	return v.render("storage", page{
		Title: "Storage", Nav: storagePath, Data: struct{ orchestrator.StorageUsage }{usage},
		Lead: "What the service keeps on disk: records, images, and who may connect.",
	})
}
