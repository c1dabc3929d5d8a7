package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"

	"davit/internal/client"
	"davit/internal/durable"
	"davit/orchestrator"
)

// DownloadImage writes an image's content to file, which appears only when it
// is complete and its SHA-256 agrees with the service's record.
func DownloadImage(ctx context.Context, c *client.Client, id, file string) (orchestrator.Image, error) {
	image, err := c.Image(ctx, id)
	if err != nil {
		return image, err
	}
	content, err := c.ImageContent(ctx, id)
	if err != nil {
		return image, err
	}
	defer content.Close()
	f, err := durable.Create(filepath.Dir(file))
	if err != nil {
		return image, err
	}
	defer f.Abort()
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(f, sum), content); err != nil {
		return image, fmt.Errorf("download image %s: %w", id, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != image.SHA256 {
		return image, fmt.Errorf("download image %s: SHA-256 is %s, the service's record says %s; download it again", id, got, image.SHA256)
	}
	if err := f.Chmod(0o644); err != nil {
		return image, err
	}
	return image, f.Commit(file)
}
