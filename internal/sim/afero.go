package sim

import (
	"io"
	"slices"
	"strconv"
	"time"

	"davit/schemas/afpro"
)

// Defaults of AferoConfig.
const (
	DefaultFirmwareType    = afpro.MinType
	DefaultVersionID       = 1
	DefaultResponseTimeout = time.Second // afLib's
	DefaultSyncRetries     = 10          // afLib's
	DefaultAferoProtocol   = 2
)

// AferoConfig describes a simulated MCU that is built on afLib. The zero value
// is a healthy one that runs version 1.0.0, whose id is 1.
//
// Of MCUConfig, AckTimeout is how long it waits for a Sync Response (0 means
// DefaultResponseTimeout) and Retries how often it sends a Sync Request that
// goes unanswered (0 means DefaultSyncRetries). ReportOnConnect is as
// ReportAtStart: nothing leaves the MCU before the module is linked.
// VersionProperty, Properties, NoVerdict, BootStat, EraseByOffer, DoubleFlags,
// the receive buffer, Features, ShortOffsets, Extras and Ping are the other
// wire's and mean nothing here.
type AferoConfig struct {
	MCUConfig
	Type      uint16 // of its firmware; 0 means DefaultFirmwareType
	VersionID uint64 // of what it runs at first; 0 means DefaultVersionID
	// AttributeSize of the transfer attribute in bytes: chunks that are longer,
	// offset included, are dropped. 0 means afpro.DefaultAttributeSize.
	AttributeSize int
	// Protocol version, 1 or 2; 0 means DefaultAferoProtocol. Version 1 knows
	// nothing of the exchange of protocol versions.
	Protocol int
	// LosesOffset makes every BEGIN start anew. Otherwise an MCU that has been
	// reset, or gets the same BEGIN again, goes on with what its flash holds.
	LosesOffset bool
	// NoGet makes it answer a GET of its version with unknown attribute.
	NoGet bool
	// SetVersion sends the version, 1207 and 1209 as SET, which wants an answer,
	// where others send UPDATE.
	SetVersion bool
	// FullStruct sends all 33 bytes of afLib's struct with every OTA info.
	FullStruct bool
	// KeepsModule leaves the module alone when nothing has answered for ten
	// seconds. Otherwise it pulls the module's reset line and waits for it to
	// start up, whether or not the line is connected to anything.
	KeepsModule bool
}

func (c *AferoConfig) setDefaults() {
	if c.Type == 0 {
		c.Type = DefaultFirmwareType
	}
	if c.VersionID == 0 {
		c.VersionID = DefaultVersionID
	}
	setDefault(&c.AttributeSize, afpro.DefaultAttributeSize)
	setDefault(&c.Protocol, DefaultAferoProtocol)
	if c.AckTimeout == 0 {
		c.AckTimeout = DefaultResponseTimeout
	}
	if c.Retries == 0 {
		c.Retries = DefaultSyncRetries
	}
	c.MCUConfig.setDefaults()
}

// AferoFault is what can be wrong with an MCU on the Afero wire only.
type AferoFault struct {
	NeverAcks      bool   // never sends a Sync Ack
	BadSyncs       bool   // the checksums of its sync messages are wrong
	HugeCounts     bool   // announces more bytes than any attribute has, for what it sends
	OffsetBeyond   bool   // answers every chunk with an offset beyond the image
	Backwards      bool   // answers every chunk with a smaller offset, for ever
	ResetAtStep    int    // resets, once, at the n-th step of its transport
	WrongVersionID uint64 // id that the new image reports instead of its own
}

// AferoStats counts what an MCU on the Afero wire saw and did.
type AferoStats struct {
	Steps        int // of the transport: syncs, acks, data, completions
	Transactions int // carried to their end, zero syncs included
	MessagesIn   int
	MessagesOut  int
	MessagesBad  int // could not be read
	TooLong      int // chunks over AttributeSize
	Collisions   int
	SyncRetries  int // Sync Requests sent again
	BadSyncs     int // Sync Responses with a wrong checksum
	Timeouts     int // reads that ended before their last byte
	GivenUp      int // transactions given up after the last retry
	ModuleResets int // pulls at the module's reset line
	Skipped      int // bytes that were no ready byte where one was due
	LostReadies  int // by Fault.LoseAcks
	Dropped      int // messages that found the queue full
	Unanswered   int // SETs and GETs given up
	Rejected     int // messages that the module rejected
	Offers       int
	Loads        int
	OutOfPlace   int // chunks at an offset that was not wanted

	PagesWritten, SectorsErased int
}

// AferoMCU is a simulated host MCU that is built on afLib: the master of the
// Afero wire, with the same board as MCU. Each of its two images has a version
// id beside its version string.
type AferoMCU struct {
	*board
	cfg   AferoConfig
	stats AferoStats
	kept  kept
	app   aferoApp
}

// aferoApp is the volatile state: gone after a reset.
type aferoApp struct {
	link aferoLink

	queue       []outgoing
	outstanding afpro.Attribute // of the SET or GET that has no answer yet, 0 for none
	request     byte            // the last request id
	closed      bool            // the module starts up; only what is under way goes out
	protocol    uint16          // of the module, as it said
	version     uint64          // application version of the module, 0 before it is known
	states      uint64          // bit n: the module has reported state n
	cause       startCause      // until the version is reported
	traffic     int
	ota         load
}

// NewAferoMCU makes an MCU. It panics on a configuration that makes no sense,
// for example an Image larger than a slot.
func NewAferoMCU(cfg AferoConfig) *AferoMCU {
	cfg.setDefaults()
	m := &AferoMCU{cfg: cfg}
	m.board = newBoard(&m.cfg.MCUConfig, m)
	m.slots[0].id = cfg.VersionID
	return m
}

// listen returns what waits for the next bytes.
func (m *AferoMCU) listen(r io.Reader) func() (func(now time.Time), error) {
	buf := make([]byte, 256)
	return func() (func(now time.Time), error) {
		n, err := r.Read(buf)
		if n == 0 && err != nil {
			return nil, err
		}
		piece := slices.Clone(buf[:n])
		return func(now time.Time) { m.hear(piece, now) }, nil
	}
}

func (m *AferoMCU) forget() { m.app = aferoApp{} }

// RunningVersionID is the version id of the image that runs, whatever is
// reported.
func (m *AferoMCU) RunningVersionID() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.slots[m.active].id
}

// Stats returns the counters.
func (m *AferoMCU) Stats() AferoStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stats
	s.PagesWritten, s.SectorsErased = m.flashed.pages, m.flashed.sectors
	return s
}

// idText is a version id where other wires have a version string.
func idText(id uint64) string { return strconv.FormatUint(id, 10) }
