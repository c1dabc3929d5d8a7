//go:build !linux

package sim

func newExact() alarm { return &usual{} }
