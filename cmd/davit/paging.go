package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"davit/internal/client"
	"davit/orchestrator"
)

// listCommand builds a command that prints a listing, which it pages through:
// one line of JSON for each item as it comes, or a table. open makes the listing
// of the command's flags and arguments.
func listCommand[T any](p *program, use, short string, args cobra.PositionalArgs,
	open func(cmd *cobra.Command, c *client.Client, args []string) (client.Listing[T], error), columns ...column[T]) *cobra.Command {
	var limit int
	cmd := p.apiCommand(use, short, args, func(cmd *cobra.Command, c *client.Client, args []string) error {
		if limit < 0 {
			return usagef("--limit is %d; it is a number of items, or 0 for all", limit)
		}
		listing, err := open(cmd, c, args)
		if err != nil {
			return err
		}
		return printListing(cmd.Context(), p, listing, limit, columns...)
	})
	cmd.Flags().IntVar(&limit, "limit", 0, "stop after this many items (default: all)")
	return cmd
}

// plain is a listing that takes neither flags nor arguments.
func plain[T any](listing func(*client.Client, context.Context, orchestrator.Page) ([]T, string, error)) func(*cobra.Command, *client.Client, []string) (client.Listing[T], error) {
	return func(_ *cobra.Command, c *client.Client, _ []string) (client.Listing[T], error) {
		return func(ctx context.Context, page orchestrator.Page) ([]T, string, error) { return listing(c, ctx, page) }, nil
	}
}

// printListing prints at most limit items, 0 meaning all.
func printListing[T any](ctx context.Context, p *program, listing client.Listing[T], limit int, columns ...column[T]) error {
	var items []T
	n := 0
	for item, err := range client.All(ctx, bounded(listing, limit)) {
		if err != nil {
			return err
		}
		if limit > 0 && n == limit {
			fmt.Fprintf(p.err, "davit: there are more than %d; --limit 0 lists all\n", limit)
			break
		}
		n++
		if !p.json {
			items = append(items, item)
			continue
		}
		if err := p.printJSON(item); err != nil {
			return err
		}
	}
	if p.json {
		return nil
	}
	return table(p, items, columns...)
}

// bounded asks for no longer pages than it takes to see that there are more
// items than limit.
func bounded[T any](listing client.Listing[T], limit int) client.Listing[T] {
	return func(ctx context.Context, page orchestrator.Page) ([]T, string, error) {
		if limit > 0 {
			page.Limit = min(page.Limit, limit+1)
		}
		return listing(ctx, page)
	}
}

// filtered binds a filter to a listing that takes one.
func filtered[T, F any](c *client.Client, listing func(*client.Client, context.Context, F, orchestrator.Page) ([]T, string, error), filter F) client.Listing[T] {
	return func(ctx context.Context, page orchestrator.Page) ([]T, string, error) {
		return listing(c, ctx, filter, page)
	}
}
