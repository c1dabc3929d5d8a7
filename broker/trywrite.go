package broker

// tryWriter writes to a socket what it takes without waiting. nil stands for a
// connection that cannot be asked: all of its bytes go through the flush
// goroutine.
type tryWriter interface {
	// tryWrite returns how many bytes were written; none is no error.
	tryWrite(p []byte) (int, error)
}

// vectorWriter is a tryWriter that gathers what it writes from many places.
type vectorWriter interface {
	tryWriter
	// tryWritev is tryWrite for all packets of a batch, one after the other. Its
	// error wraps errUnreadable if memory of a packet cannot be read.
	tryWritev(b *batch) (int, error)
}
