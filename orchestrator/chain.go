package orchestrator

import (
	"slices"
	"strings"
)

// link is an image as a step from one version to another.
type link struct {
	Image, Version, MinVersion, SHA256 string
	Size, VersionID                    uint64
}

// from says whether the image can be put where a version runs.
func (l link) from(running string) bool { return l.MinVersion == "" || l.MinVersion == running }

// String is the step as people read it.
func (l link) String() string {
	if l.MinVersion == "" {
		return "any > " + l.Version
	}
	return l.MinVersion + " > " + l.Version
}

// nextLink is the image that a device with the running version gets first on the
// shortest way to the goal's version; of several such ways, the one whose images
// stand first in the list, the goal last. There is none if no way leads there, or
// if it is there already.
func nextLink(links []link, goal link, running string) (link, bool) {
	way := wayTo(chained(links, goal), running, goal.Version)
	if len(way) == 0 {
		return link{}, false
	}
	return way[0], true
}

// chainPath are the versions on the way, with the running one and the goal's; nil
// if no way leads there.
func chainPath(links []link, goal link, running string) []string {
	way := wayTo(chained(links, goal), running, goal.Version)
	if len(way) == 0 && running != goal.Version {
		return nil
	}
	path := []string{running}
	for _, l := range way {
		path = append(path, l.Version)
	}
	return path
}

// wayTo is the shortest way over the images from one version to another, nil if
// there is none or the two are the same. It searches in breadth; the lists are short.
func wayTo(all []link, running, version string) []link {
	seen := map[string]bool{running: true}
	for ways := [][]link{nil}; len(ways) > 0 && running != version; ways = ways[1:] {
		way, at := ways[0], running
		if len(way) > 0 {
			at = way[len(way)-1].Version
		}
		for _, l := range all {
			if !l.from(at) || seen[l.Version] {
				continue
			}
			longer := append(slices.Clone(way), l)
			if l.Version == version {
				return longer
			}
			seen[l.Version] = true
			ways = append(ways, longer)
		}
	}
	return nil
}

// chained are the images that lead somewhere, the goal last.
func chained(links []link, goal link) []link { return append(slices.Clone(links), goal) }

// checkChain refuses images to be led through that contradict one another or are
// of no use.
func checkChain(links []link, goal link) error {
	const field = "rollout/via"
	all := chained(links, goal)
	for i, l := range all {
		for _, other := range all[:i] {
			if l.Version == other.Version && l.MinVersion == other.MinVersion {
				return invalidField(field, "images %q and %q lead both from the same version to the same (%s); name one of them", other.Image, l.Image, l)
			}
		}
	}
	if cycle := cycleOf(all); cycle != nil {
		return invalidField(field, "the min versions lead in a circle (%s): a device would never arrive", strings.Join(cycle, " > "))
	}
	for i, l := range links {
		if l.Version != goal.Version && wayTo(all, l.Version, goal.Version) == nil {
			return invalidField(element(field, i), "image %q (%s) leads nowhere: none of the others goes on from %s to %s", l.Image, l, l.Version, goal.Version)
		}
		if !used(links, goal, l) {
			return invalidField(element(field, i), "image %q (%s) would never be used: another way to %s is as short or shorter", l.Image, l, goal.Version)
		}
	}
	return nil
}

// used says whether some device gets the image first. A device asks anew from
// each version that it comes to, so that it is enough to look at all versions, and
// at one that no image knows.
func used(links []link, goal, l link) bool {
	starts := []string{""}
	for _, other := range chained(links, goal) {
		starts = append(starts, other.Version, other.MinVersion)
	}
	return slices.ContainsFunc(starts, func(version string) bool {
		first, ok := nextLink(links, goal, version)
		return ok && first == l
	})
}

// cycleOf returns versions whose images lead back to the first of them, the first
// one again at the end. An image without min version closes no circle: it stands
// at the beginning of ways only, because from where another leads on there is a
// shorter one.
func cycleOf(all []link) []string {
	for _, start := range all {
		if start.MinVersion == "" {
			continue
		}
		if start.MinVersion == start.Version {
			return []string{start.MinVersion, start.Version}
		}
		var fixed []link
		for _, l := range all {
			if l.MinVersion != "" && l != start {
				fixed = append(fixed, l)
			}
		}
		if way := wayTo(fixed, start.Version, start.MinVersion); way != nil {
			path := []string{start.MinVersion, start.Version}
			for _, l := range way {
				path = append(path, l.Version)
			}
			return path
		}
	}
	return nil
}
