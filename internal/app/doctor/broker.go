package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"davit/bridge/mqtt"
	"davit/internal/app/keyfile"
	"davit/internal/keystate"
)

// reach connects to a broker as the program would, and leaves at once.
func reach(ctx context.Context, cfg mqtt.Config, credentials string) []Finding {
	err := mqtt.Probe(ctx, cfg)
	switch {
	case err == nil:
		return []Finding{good("%s answers, and lets %s in", cfg.URL, cfg.Username)}
	case errors.Is(err, mqtt.ErrCredentials):
		return []Finding{failed(fmt.Sprintf("%v (user name %q)", err, cfg.Username), credentials)}
	}
	return []Finding{failed(err.Error(), "check the address, that the broker runs there, and what is in between (firewall, name server)")}
}

// password is the one line of a file, "" if it cannot be read, which is told with the files.
func password(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// keys checks the keys that images are verified with.
func (s System) keys(from keyfile.Source, state keystate.File) []Finding {
	if from.None() {
		return []Finding{good("none are named: signatures of images are not verified")}
	}
	set, ring, err := from.Read()
	if err == nil {
		err = state.Check(ring)
	}
	if err != nil {
		return []Finding{failed(err.Error(), "davit keylist check and davit key show say what a file is; without its keys the program does not start")}
	}
	if ring == nil {
		return []Finding{good("%s, of which %d sign each image", count(len(set.Keys), "image key"), set.Threshold)}
	}
	if err := ring.Check(s.Now()); err != nil {
		return []Finding{failed(err.Error(), "have a new list signed (davit keylist create, davit keylist sign) and put it in its place")}
	}
	list := ring.List()
	if left := list.Expires.Sub(s.Now()); left < renewal {
		return []Finding{warning(fmt.Sprintf("key list %d expires in %s, and no image is accepted after that", list.Version, days(left)), "have a new list signed (davit keylist create, davit keylist sign) and put it in its place")}
	}
	return []Finding{good("key list %d is in force for %s", list.Version, days(list.Expires.Sub(s.Now())))}
}
