package app

// Files of a data folder that others look at.
const (
	// StoreFile has the records of a service.
	StoreFile = storeName
	// KeyListFile remembers which key list a service, or a bridge, has accepted.
	KeyListFile = "keylist.json"
)
