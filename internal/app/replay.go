package app

import (
	"io"

	"davit/bridge/replay"
)

// Replay runs the host MCU's side of a recording against the dialect that this
// program speaks. The error is about the recording.
func Replay(src io.Reader, o replay.Options) (replay.Report, error) {
	all := map[string]replay.Dialect{}
	for name, f := range families() {
		all[name] = f
	}
	return replay.Run(src, all, o)
}
