package orchestrator

import (
	"context"
	"errors"
	"io"

	"davit/schemas"
)

// Store keeps the service's records: an ordered, transactional map of byte
// strings, divided into tables. Records and their secondary indexes are laid
// out by this package (records.go), so every store keeps them the same way;
// package storetest is the suite that a store has to pass.
type Store interface {
	// View runs fn on a consistent snapshot.
	View(ctx context.Context, fn func(Reader) error) error
	// Update runs fn and keeps everything that it wrote, or, if fn returns an
	// error or the store fails, nothing of it. When Update returns nil the
	// writes are on disk. The store may run fn more than once and may commit
	// several updates together, so fn has no effects but on tx and on
	// variables that it sets afresh.
	Update(ctx context.Context, fn func(Writer) error) error
	// Close ends the store after the updates under way.
	Close() error
}

// Snapshotter is what a Store may be besides: one that can be copied while it is used.
type Snapshotter interface {
	// Snapshot calls look with a snapshot, then writes that to w as a store of the same
	// kind is opened from. Updates go on meanwhile.
	Snapshot(ctx context.Context, look func(Reader) error, w io.Writer) error
}

// Reader reads a snapshot. Slices that it returns are the caller's own.
type Reader interface {
	// Get returns the value of key, or nil if there is none.
	Get(table Table, key []byte) ([]byte, error)
	// Scan calls fn in ascending order for each key that begins with prefix
	// and is greater than after (nil for all), until fn returns false.
	Scan(table Table, prefix, after []byte, fn func(key, value []byte) bool) error
}

// Writer is a Reader that sees its own writes. It keeps copies: the slices that it
// is given are the caller's again when it returns.
type Writer interface {
	Reader
	Put(table Table, key, value []byte) error
	Delete(table Table, key []byte) error
}

// Table names one ordered map of a Store.
type Table string

// Blobs keeps the bytes of images by their SHA-256 (lower-case hex).
type Blobs interface {
	// Create begins a blob of unknown content.
	Create(ctx context.Context) (BlobWriter, error)
	// Open returns the blob for reading at any position.
	Open(ctx context.Context, sha256 string) (Blob, error)
	// Remove deletes a blob; one that is not there is no error.
	Remove(ctx context.Context, sha256 string) error
	// List calls fn for each blob in ascending order until it returns false.
	List(ctx context.Context, fn func(sha256 string, size int64) bool) error
}

// Blob is an open blob.
type Blob interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// MappedBlob is what a Blob may be besides: memory that all who read it share.
type MappedBlob interface {
	Blob
	// Mapped is what schemas.ImageBytes says of it, valid until Close.
	Mapped() []byte
	// Descriptor is what schemas.ImageFile says of it, valid until Close.
	Descriptor() (fd uintptr, ok bool)
}

// BlobWriter receives a blob's bytes.
type BlobWriter interface {
	io.Writer
	// Commit puts the blob in its place and returns its SHA-256 and size.
	// When it returns, the blob is on disk under that name. A blob that is
	// there already is left as it is.
	Commit() (sha256 string, size int64, err error)
	// Abort throws the bytes away; after Commit it does nothing.
	Abort()
}

// Scratch is what a Blobs may be besides: room for data that is too much for
// memory and that nobody needs after a crash.
type Scratch interface {
	Scratch(ctx context.Context) (ScratchFile, error)
}

// ScratchFile is gone when it is closed.
type ScratchFile interface {
	io.Writer
	io.ReaderAt
	io.Closer
}

// Publisher carries what the service says to devices. Every call may be
// repeated.
type Publisher interface {
	// Offer publishes the retained offer.
	Offer(ctx context.Context, device string, o schemas.Offer) error
	// Withdraw clears the retained offer.
	Withdraw(ctx context.Context, device string) error
	// Forget clears everything that is retained of a device that was deleted.
	Forget(ctx context.Context, device string) error
	// Ack publishes the acknowledgement of a status.
	Ack(ctx context.Context, device string, a schemas.Ack) error
	// Profile tells the device what its type says of its host MCU; it may be
	// lost.
	Profile(ctx context.Context, device string, p schemas.Profile) error
	// Chunk publishes one encoded chunk; it may be lost. The slice is the
	// caller's again when Chunk returns: who keeps it longer copies it.
	Chunk(ctx context.Context, device string, chunk []byte) error
}

// Session is the connection of the module that asked, where the service has it in
// its own hands: chunks go to that connection alone and nothing waits in between.
type Session interface {
	// Send writes chunks of one image, in order and without waiting. It returns how
	// many it has taken: they are on their way. With fewer than all, ready is called
	// once, from any goroutine and perhaps before Send returns, when the session can
	// take more or has ended. An error means that the session has ended, or does not
	// subscribe to the device's chunk topic. chunks are the caller's again when Send
	// returns; what of the image is needed longer is retained.
	Send(device string, image schemas.ImageBytes, chunks []schemas.Chunk, ready func()) (taken int, err error)
}

// Backlog is what a Session may tell besides.
type Backlog interface {
	// Backlog is how many bytes that the session has taken the far end's system has
	// not acknowledged. It does not block.
	Backlog() int
}

// Memory is what a Session may lend besides.
type Memory interface {
	// Memory is a place in the session that nobody but the orchestrator uses, nil at first.
	Memory() *any
}

// Multicaster sends chunks once to many: on the topic of the image's shared stream.
type Multicaster interface {
	// Multicast sends chunks of the image with that SHA-256 (lower-case hex) to the
	// sessions that subscribe to its shared stream, in order and without waiting for
	// any of them: one that cannot take something now misses it. It returns how many
	// were sent, of len(chunks) to each. to is empty if the service has none of the
	// connections in its own hands: then it publishes, and returns how many it has.
	// All slices are the caller's again when Multicast returns.
	Multicast(ctx context.Context, sha256 string, image schemas.ImageBytes, chunks []schemas.Chunk, to []Session) (sent int)
}

// Kinds of error, for errors.Is. The text of the error that wraps one says
// what happened and what to do.
var (
	// ErrNotFound: what was named does not exist.
	ErrNotFound = errors.New("not found")
	// ErrExists: the id or name is taken.
	ErrExists = errors.New("exists already")
	// ErrInvalid: the request cannot be granted as it is.
	ErrInvalid = errors.New("invalid")
	// ErrConflict: the request does not fit the present state.
	ErrConflict = errors.New("conflict")
	// ErrStale: the record was edited since it was read.
	ErrStale = errors.New("changed meanwhile")
	// ErrTooLarge: an image is over a limit.
	ErrTooLarge = errors.New("too large")
	// ErrNoSpace: the disk is full.
	ErrNoSpace = errors.New("no space left")
	// ErrUnwritable: the disk takes nothing, for another reason than want of room: it is mounted for reading only, or broken.
	ErrUnwritable = errors.New("the disk cannot be written")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("closed")
)
