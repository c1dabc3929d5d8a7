package durable

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// DecodeJSON reads the content of a file of ours strictly: an unknown field, or anything
// behind its end, means that something else has written it.
func DecodeJSON(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something stands after its end")
	}
	return nil
}
