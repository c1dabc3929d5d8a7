package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"davit/broker"
	"davit/internal/durable"
	"davit/orchestrator"
)

// Check verifies every record, index and image of a data folder, and that its
// credentials file can be read. It takes the folder, so no service can be
// using it, and changes no record and no image.
func Check(ctx context.Context, dir string) (report orchestrator.CheckReport, err error) {
	if _, err := os.Stat(filepath.Join(dir, storeName)); err != nil {
		return report, fmt.Errorf("%s is not the data folder of a service: %w", dir, err)
	}
	lock, err := durable.Lock(dir, "davit check")
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if _, err := broker.OpenCredentials(dir); err != nil {
		return report, err
	}
	store, blobs, err := openData(dir, nil)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := store.View(ctx, orchestrator.CheckLayout); err != nil {
		return report, fmt.Errorf("data folder %s: %w", dir, err)
	}
	service, err := orchestrator.New(orchestrator.Options{
		Store: store, Blobs: blobs, Publisher: silent{}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return report, err
	}
	if report, err = service.Check(ctx); err != nil {
		return report, err
	}
	return report, checkPeople(ctx, store, &report)
}
