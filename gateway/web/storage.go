package web

import "davit/orchestrator"

const storagePath = "/storage"

func (c *Console) storageRoutes() {
	// A backup is asked of the API itself, as an image's download is.
	c.handle("POST /storage/compact", "compact-storage", (*visit).compact)
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

func (v *visit) compact() error {
	c, err := v.options.Storage.Compact(v.ctx())
	if err == nil {
		err = v.service.Audit(v.ctx(), "compact", orchestrator.KindStorage, "records", nil, c)
	}
	if err != nil {
		return v.outcome(err, storagePath, "")
	}
	given, err := anySize(max(0, c.Before-c.After))
	return v.outcome(err, storagePath, "The records are compacted: "+given+" went back to the disk.")
}
