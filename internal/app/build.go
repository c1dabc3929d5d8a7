package app

import (
	"runtime"
	"runtime/debug"

	"davit/schemas"
)

// Set by the linker when a release is built (release/binary), because such a build records nothing of the
// checkout that it is made in. Empty in every other build, and never changed.
var version, revision string

// Build says what this program was built from.
type Build struct {
	// Version is the module's version, or "devel" for a build from a checkout
	// that carries none.
	Version string `json:"version"`
	// Revision is the commit, with "+dirty" after it if files had changed.
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	// Contract is the version of the MQTT contract that the program speaks.
	Contract int `json:"contract"`
}

// ReadBuild reads what the linker recorded.
func ReadBuild() Build {
	b := Build{Version: "devel", Go: runtime.Version(), Contract: schemas.Version}
	if version != "" {
		b.Version, b.Revision = version, revision
		return b
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	dirty := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	if dirty && b.Revision != "" {
		b.Revision += "+dirty"
	}
	return b
}
