package people

import "slices"

// Operation is one thing that people can do, under the id that it has in the
// OpenAPI document. This table is the only place that says who may do what, and where
// it is found in the console and on the command line: the API refuses to start
// with an operation that is missing here, and tests hold the console's routes, the
// command line and docs/operations.md against it.
type Operation struct {
	// ID is the operation's id in the OpenAPI document.
	ID string
	// Scope that it takes.
	Scope Scope
	// Console is the path of the console's page on which it is done, in the form of
	// net/http's patterns; empty if the console does without.
	Console string
	// CLI is the command that does it.
	CLI string
}

// Operations are all operations, by kind of record.
func Operations() []Operation {
	return slices.Concat(imageOperations(), fleetOperations(), jobOperations(), peopleOperations(), storageOperations(), serviceOperations())
}

// imageOperations are those on what is deployed and what it fits, behind the overview.
func imageOperations() []Operation {
	return []Operation{
		{"get-fleet", ScopeRead, "/", "davit fleet"},
		{"get-status", ScopeRead, "", "davit status"},
		{"watch-events", ScopeRead, "/", "davit events"},

		{"list-image-types", ScopeRead, "/image-types", "davit image-type list"},
		{"get-image-type", ScopeRead, "/image-types/{id}", "davit image-type show"},
		{"create-image-type", ScopeTypes, "/image-types", "davit image-type create"},
		{"change-image-type", ScopeTypes, "/image-types/{id}", "davit image-type change"},
		{"delete-image-type", ScopeTypes, "/image-types/{id}", "davit image-type remove"},

		{"list-device-types", ScopeRead, "/device-types", "davit device-type list"},
		{"get-device-type", ScopeRead, "/device-types/{id}", "davit device-type show"},
		{"create-device-type", ScopeTypes, "/new/device-type", "davit device-type create"},
		{"change-device-type", ScopeTypes, "/device-types/{id}", "davit device-type change"},
		{"delete-device-type", ScopeTypes, "/device-types/{id}", "davit device-type remove"},

		{"list-images", ScopeRead, "/images", "davit image list"},
		{"get-image", ScopeRead, "/images/{id}", "davit image show"},
		{"download-image", ScopeDownload, "/images/{id}", "davit image download"},
		{"create-upload", ScopeImages, "/new/image", "davit image push"},
		{"get-upload", ScopeImages, "/new/image", "davit image push"},
		{"delete-upload", ScopeImages, "/new/image", "davit image push"},
		{"create-image-from-upload", ScopeImages, "/new/image", "davit image push"},
		{"create-image", ScopeImages, "/new/image", "davit image push"},
		{"change-image", ScopeImages, "/images/{id}", "davit image change"},
		{"attach-manifest", ScopeImages, "/images/{id}", "davit image attach"},
		{"delete-image", ScopeImages, "/images/{id}", "davit image remove"},
	}
}

// fleetOperations are those on what images are deployed to.
func fleetOperations() []Operation {
	return []Operation{
		{"list-devices", ScopeRead, "/devices", "davit device list"},
		{"get-device", ScopeRead, "/devices/{id}", "davit device show"},
		{"list-device-executions", ScopeRead, "/devices/{id}", "davit device executions"},
		{"create-device", ScopeDevices, "/new/device", "davit device add"},
		{"import-devices", ScopeDevices, "/import/devices", "davit device import"},
		{"change-device", ScopeDevices, "/devices/{id}", "davit device change"},
		{"delete-device", ScopeDevices, "/devices/{id}", "davit device remove"},
		{"rotate-device-credentials", ScopeDevices, "/devices/{id}", "davit device rotate"},
		{"order-rotation", ScopeDevices, "/devices/{id}", "davit device rotate"},
		{"quarantine-device", ScopeQuarantine, "/devices/{id}", "davit device quarantine"},
		{"release-device", ScopeQuarantine, "/devices/{id}", "davit device release"},

		{"list-bridges", ScopeRead, "/bridges", "davit bridge list"},
		{"get-bridge", ScopeRead, "/bridges/{id}", "davit bridge show"},
		{"create-bridge", ScopeDevices, "/bridges", "davit bridge add"},
		{"change-bridge", ScopeDevices, "/bridges/{id}", "davit bridge change"},
		{"delete-bridge", ScopeDevices, "/bridges/{id}", "davit bridge remove"},
		{"rotate-bridge-credentials", ScopeDevices, "/bridges/{id}", "davit bridge rotate"},

		{"list-claims", ScopeRead, "/claims", "davit claim list"},
		{"get-claim", ScopeRead, "/claims", "davit claim show"},
		{"create-claim", ScopeDevices, "/claims", "davit claim create"},
		{"revoke-claim", ScopeDevices, "/claims", "davit claim revoke"},

		{"list-groups", ScopeRead, "/groups", "davit group list"},
		{"get-group", ScopeRead, "/groups/{id}", "davit group show"},
		{"list-group-devices", ScopeRead, "/groups/{id}", "davit group devices"},
		{"preview-query", ScopeRead, "/new/group", "davit group preview"},
		{"create-group", ScopeGroups, "/new/group", "davit group create"},
		{"replace-group", ScopeGroups, "/groups/{id}", "davit group change"},
		{"delete-group", ScopeGroups, "/groups/{id}", "davit group remove"},
	}
}

// jobOperations are those on jobs and their executions.
func jobOperations() []Operation {
	return []Operation{
		{"list-jobs", ScopeRead, "/jobs", "davit job list"},
		{"get-job", ScopeRead, "/jobs/{name}", "davit job show"},
		{"list-job-executions", ScopeRead, "/jobs/{name}", "davit job show"},
		{"get-execution", ScopeRead, "/executions/{id}", "davit job execution"},
		{"get-job-history", ScopeRead, "/jobs/{name}", "davit job history"},
		{"watch-job", ScopeRead, "/jobs/{name}", "davit job watch"},
		{"preview-job", ScopeRead, "/new/job", "davit job preview"},
		{"create-job", ScopeRun, "/new/job", "davit job create"},
		{"change-job", ScopeRun, "/jobs/{name}", "davit job change"},
		{"start-job", ScopeRun, "/jobs/{name}", "davit job start"},
		{"pause-job", ScopePause, "/jobs/{name}", "davit job pause"},
		{"resume-job", ScopeRun, "/jobs/{name}", "davit job resume"},
		{"cancel-job", ScopeRun, "/jobs/{name}", "davit job cancel"},
		{"retry-job", ScopeRun, "/jobs/{name}", "davit job retry"},
		{"list-wave-devices", ScopeRead, "/jobs/{name}/waves/{n}", "davit job wave"},
		{"approve-wave", ScopeRun, "/jobs/{name}", "davit job approve"},
		{"install-job", ScopeRun, "/jobs/{name}", "davit job install"},
		{"confirm-job", ScopeRun, "/jobs/{name}", "davit job confirm"},
	}
}

// peopleOperations are those on who may do what, and who did.
func peopleOperations() []Operation {
	return []Operation{
		{"get-me", ScopeAccount, "/account", "davit whoami"},
		{"change-own-password", ScopeAccount, "/account", "davit user password"},
		{"list-tokens", ScopeAccount, "/account", "davit token list"},
		{"create-token", ScopeAccount, "/account", "davit token create"},
		{"delete-token", ScopeAccount, "/account", "davit token revoke"},

		{"list-users", ScopePeople, "/people", "davit user list"},
		{"get-user", ScopePeople, "/people/{name}", "davit user show"},
		{"create-user", ScopePeople, "/people", "davit user create"},
		{"change-user", ScopePeople, "/people/{name}", "davit user change"},
		{"delete-user", ScopePeople, "/people/{name}", "davit user remove"},

		{"list-audit-entries", ScopeAudit, "/audit", "davit audit list"},
		{"export-audit", ScopeAudit, "/audit", "davit audit export"},
	}
}

// storageOperations are those on what the service keeps, as a whole.
func storageOperations() []Operation {
	return []Operation{
		{"get-storage", ScopeStorage, "/storage", "davit storage"},
		{"take-backup", ScopeStorage, "/storage", "davit backup"},
		{"compact-storage", ScopeStorage, "/storage", "davit compact"},
	}
}

// serviceOperations are those on the service's own process. The console has no page
// for them: it shows the product, and who changes a log's level reads that log.
func serviceOperations() []Operation {
	return []Operation{
		{"get-log-level", ScopeService, "", "davit log level"},
		{"set-log-level", ScopeService, "", "davit log level"},
	}
}

// OperationByID finds an operation.
func OperationByID(id string) (Operation, bool) {
	all := Operations()
	i := slices.IndexFunc(all, func(op Operation) bool { return op.ID == id })
	if i < 0 {
		return Operation{}, false
	}
	return all[i], true
}
