package yamlfile

import (
	"fmt"
	"io"
	"os"
)

// ReadFile returns the content of a configuration file, at most MaxSize+1 bytes of it
// (Reader.Root says that it is too long). What is not a regular file could not be read
// once more at a reload, or might never end, and is refused. The error is an *Error.
func ReadFile(name string) ([]byte, error) {
	wrong := func(format string, args ...any) error {
		return &Error{Name: name, Problems: []Problem{{Text: fmt.Sprintf(format, args...)}}}
	}
	switch info, err := os.Stat(name); {
	case err != nil:
		return nil, wrong("the configuration file cannot be read: %v", Bare(err))
	case info.IsDir():
		return nil, wrong("is a directory; name the configuration file in it")
	case !info.Mode().IsRegular():
		return nil, wrong("is not a regular file; it has to be one, so that it can be read again")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, wrong("the configuration file cannot be read: %v", Bare(err))
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, wrong("the configuration file cannot be read: %v", Bare(err))
	}
	return b, nil
}
