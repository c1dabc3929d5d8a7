package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
)

// wholeNumber adds a flag for a whole number from least to most. What is none is told with the
// numbers that are.
func wholeNumber[T int | uint64](cmd *cobra.Command, to *T, name string, least, most T, usage string) {
	parse := func(s string) (T, error) {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < int64(least) || n > int64(most) {
			return 0, fmt.Errorf("it is a whole number from %d to %d", least, most)
		}
		return T(n), nil
	}
	into(cmd, name, "N", usage, parse, func(n T) { *to = n })
}
