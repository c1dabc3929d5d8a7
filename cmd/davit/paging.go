package main

import (
	"context"

	"davit/internal/client"
	"davit/orchestrator"
)

// all reads a listing to its end.
func all[T any](ctx context.Context, listing client.Listing[T]) ([]T, error) {
	var items []T
	for item, err := range client.All(ctx, listing) {
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

// imagePages binds a filter to the listing of images.
func imagePages(c *client.Client, filter orchestrator.ImageFilter) client.Listing[orchestrator.Image] {
	return func(ctx context.Context, page orchestrator.Page) ([]orchestrator.Image, string, error) {
		return c.Images(ctx, filter, page)
	}
}

// executionPages binds a job to the listing of its executions.
func executionPages(c *client.Client, job string) client.Listing[orchestrator.Execution] {
	return func(ctx context.Context, page orchestrator.Page) ([]orchestrator.Execution, string, error) {
		return c.JobExecutions(ctx, job, page)
	}
}
