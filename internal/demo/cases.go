package demo

// fault is one thing that the demo can make go wrong on a device.
type fault struct {
	name     string
	injected string
}
