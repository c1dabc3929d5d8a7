package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestWhatFailedBesides: an error that is in a command's output already, and an interrupt, do not hide others.
func TestWhatFailedBesides(t *testing.T) {
	failed := errors.New("the devices are left")
	for _, c := range []struct {
		err  error
		want string
		code int
	}{
		{errReported, "", exitFailed},
		{errors.Join(errReported, nil), "", exitFailed},
		{errors.Join(errReported, failed), "davit: the devices are left\n", exitFailed},
		{errors.Join(errors.Join(nil, errReported), failed), "davit: the devices are left\n", exitFailed},
		{fmt.Errorf("run: %w", context.Canceled), "davit: interrupted\n", exitFailed},
		{errors.Join(fmt.Errorf("run: %w", context.Canceled), failed), "davit: interrupted\ndavit: the devices are left\n", exitFailed},
		{failed, "davit: the devices are left\n", exitFailed},
	} {
		var said strings.Builder
		p := &program{streams: streams{err: &said}, started: true}
		if code := p.exitCode(c.err); code != c.code || said.String() != c.want {
			t.Errorf("%v: exit code %d, said %q, want %q", c.err, code, said.String(), c.want)
		}
	}
}
