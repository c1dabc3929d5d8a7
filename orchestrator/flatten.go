package orchestrator

import (
	"fmt"
	"io"
)

// flatInfo is what is known of an image once it is flat.
type flatInfo struct {
	Format                     string
	Size                       uint64
	StartAddress, EntryAddress *uint64
}

func flatten(r io.Reader, w io.Writer, n NewImage, limit sizeLimit) (flatInfo, error) {
	if n.Format == "ihex" {
		return flatInfo{}, invalid("format ihex of %d bytes at most is not read by this build", limit.bytes)
	}
	size, err := io.Copy(w, r)
	if err != nil {
		return flatInfo{}, fmt.Errorf("upload: %w", err)
	}
	return flatInfo{Format: "binary", Size: uint64(size)}, nil
}
