package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"io"

	"davit/orchestrator/firmware"
)

// flatten reads an uploaded file into a blob and says its errors in this
// package's kinds.
func flatten(ctx context.Context, src source, w io.Writer) (firmware.Info, error) {
	in := &uploadReader{ctx: ctx, r: src}
	limit := src.limit
	info, err := firmware.Flatten(in, w, firmware.Options{Format: src.format, Limit: int64(limit.bytes), FileName: src.name, Spool: src.spool})
	switch {
	case errors.Is(err, firmware.ErrTooLarge):
		return info, fmt.Errorf("the image is %w: the limit of %s is %d bytes (%w)", ErrTooLarge, limit.whose, limit.bytes, err)
	case in.n == 0 && errors.Is(err, firmware.ErrFormat):
		return info, invalid("the image is empty (0 bytes); upload a firmware file of 1 to %d bytes, which is the limit of %s", limit.bytes, limit.whose)
	case errors.Is(err, firmware.ErrFormat):
		return info, invalid("%w", err)
	}
	return info, err
}

// uploadReader ends with its context and counts what was read.
type uploadReader struct {
	ctx context.Context
	r   io.Reader
	n   int64
}

func (u *uploadReader) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := u.r.Read(p)
	u.n += int64(n)
	return n, err
}
