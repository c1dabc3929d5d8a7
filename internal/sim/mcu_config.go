package sim

import (
	"time"

	"davit/schemas/tlv"
)

// Defaults of MCUConfig.
const (
	DefaultVersionProperty = "oem_host_version"
	DefaultMCUVersion      = "1.0.0"
	DefaultSlotSize        = 1 << 20
	DefaultSectorSize      = 4 << 10
	DefaultPageSize        = 256
	DefaultEraseTime       = 20 * time.Millisecond // a sector
	DefaultWriteTime       = time.Millisecond      // a page
	DefaultVerifyTime      = 20 * time.Millisecond
	DefaultBootTime        = 1500 * time.Millisecond
	DefaultConfirmAfter    = 500 * time.Millisecond
	DefaultAckTimeout      = 5 * time.Second // the reference module's
	DefaultRetries         = 2
)

// None as a time of MCUConfig means no time at all, where 0 means the default.
const None time.Duration = -1

// ReportMode says when an MCU reports its version without being asked. Asked
// for it, it answers in every mode.
type ReportMode string

// The report modes.
const (
	ReportAtStart   ReportMode = ""           // as its first frame after every start
	ReportOnConnect ReportMode = "on-connect" // when CONNECT says that the cloud is reachable
	ReportOnRequest ReportMode = "on-request" // only when asked
	// ReportAfterUpdate: as ReportAtStart, but only when a new image runs for the
	// first time or the boot loader has gone back to the old one.
	ReportAfterUpdate ReportMode = "after-update"
)

// MCUConfig describes a simulated host MCU. The zero value is a healthy one
// that runs version 1.0.0.
type MCUConfig struct {
	Version         string // what it runs at first; empty means DefaultMCUVersion
	Image           []byte // what slot A holds at first; nil means a small demo image of Version
	VersionProperty string // empty means DefaultVersionProperty
	// Properties are further string properties that it has.
	Properties map[string]string

	SlotSize   int // bytes of each of the two slots
	SectorSize int // bytes erased at a time
	PageSize   int // bytes programmed at a time

	EraseTime  time.Duration // of a sector
	WriteTime  time.Duration // of a page; the MCU is deaf while it lasts
	VerifyTime time.Duration // of the check after the last piece
	BootTime   time.Duration // silence between a reset and the first frame
	// ConfirmAfter is how long after its start a new image confirms itself; a
	// reset before that brings the old one back.
	ConfirmAfter time.Duration
	AckTimeout   time.Duration // after which a frame is sent again
	Retries      int           // how often; 0 means DefaultRetries, negative never

	Report ReportMode
	// NoVerdict leaves out STAT(0) after the last piece, as the flow chart of
	// the host OTA instructions does.
	NoVerdict bool
	// BootStat sends STAT(0) once the new image runs.
	BootStat bool
	// EraseByOffer erases one sector per offer and answers INTERNAL until the
	// slot is clean, as the reference application does.
	EraseByOffer bool
	// AcceptSame takes an offer of the version that runs already.
	AcceptSame bool
	// RejectOlder refuses versions that sort before the running one, number by
	// number, with INVAL_REQ (the documents name no code for it).
	RejectOlder bool
	// DoubleFlags makes every frame need two flags of its own: an old receiver
	// that does not let one flag end a frame and begin the next.
	DoubleFlags bool
	// RxLimit is the longest payload that its receive buffer holds; longer
	// frames are lost. 0 means tlv.MaxPayload.
	RxLimit int
	// RxStuffed: the buffer takes what the line brings, so that an escape and the
	// byte after it count as two.
	RxStuffed bool
	// RxCode, if set, is answered to a data frame over RxLimit, which is acknowledged
	// and not lost: in a STAT, or in a NAK with RxNAK.
	RxCode tlv.Code
	RxNAK  bool
	// Features is what it answers when it is asked for its features.
	Features tlv.Features
	// FeaturesCode, if set, stands as an ERR in that answer, which has no FEATURES
	// with NoFeatures.
	FeaturesCode tlv.Code
	NoFeatures   bool
	// ShortOffsets: LEN and OFF have two bytes in what it sends.
	ShortOffsets bool
	// Extras puts TLVs that nobody knows, such with a length of 15 bits among them,
	// in front of the known ones in whatever it sends, as far as there is room.
	Extras bool
	// Ping is the interval at which it pings the module; 0 means never.
	Ping time.Duration
	// Traffic is the interval at which it sends properties of its own accord,
	// long ones in several packets among them; 0 means never.
	Traffic time.Duration

	Seed  uint64
	Fault Fault
	// OnEvent, if set, is called from the goroutine of Run for everything that
	// happens. It may call the MCU's accessors.
	OnEvent func(Event)
}

// Fault is what is wrong with an MCU. Faults can be combined. The words are
// those of the Ayla-compatible wire. On the Afero wire a refusal is IDLE
// whatever the reason, a frame is a message of either side, an ack is what the
// MCU does at a ready byte, or its sync message, and a failed write stops the
// transfer early.
type Fault struct {
	RejectTooLarge bool // answers every offer with LEN_ERR
	RejectAlready  bool // answers every offer with ALREADY, whatever it runs
	Busy           int  // answers so many offers, the first, with BusyCode
	Silent         bool // acknowledges everything and answers nothing to an offer
	Deaf           bool // does not even acknowledge
	BadChecksum    bool // its check of the image fails
	NoBoot         bool // the new image does not start: it falls back
	NeverReturns   bool // after BOOT nothing is heard any more
	NoVersion      bool // never reports its version
	// WrongVersion is what the new image reports instead of its version; on the
	// Afero wire see AferoFault.WrongVersionID.
	WrongVersion string
	// BusyCode is BUSY_RETRY if it is 0.
	BusyCode tlv.Code
	// FlashErrorAt makes programming page n (from 1) of each transfer fail.
	FlashErrorAt int
	// ResetAtFrame resets the MCU, once, when the n-th data frame arrives.
	ResetAtFrame int
	// ResetAtByte resets the MCU, once, when so many bytes are loaded.
	ResetAtByte int
	AckDelay    time.Duration // how late every ack is
	DoubleAcks  bool          // every ack is sent twice
	LoseAcks    float64       // probability that an ack is not sent
	// Afero is what can only go wrong on the Afero wire.
	Afero AferoFault
}

// EventKind says what happened in an MCU.
type EventKind string

// The events.
const (
	EventStarted  EventKind = "started"  // an image runs; Version
	EventOffer    EventKind = "offer"    // an offer arrived; Version, Size
	EventAccepted EventKind = "accepted" // go was sent, or BEGIN sent back
	EventRefused  EventKind = "refused"  // IDLE was sent (Afero only)
	EventStat     EventKind = "stat"     // STAT was sent; Code
	EventLoad     EventKind = "load"     // a piece was taken; Done of Size
	EventBoot     EventKind = "boot"     // BOOT or APPLY was obeyed, the reset follows
	EventFallback EventKind = "fallback" // the boot loader went back to the old image
	EventReset    EventKind = "reset"    // a reset that nobody asked for
	EventConfirm  EventKind = "confirm"  // the running image confirmed itself
)

// Event is something that happened in an MCU.
type Event struct {
	Kind       EventKind
	Version    string
	Done, Size uint32
	Code       tlv.Code
}

// MCUStats counts what an MCU saw and did.
type MCUStats struct {
	FramesIn, FramesOut int // data frames; those sent again are in Retries
	FramesBad           int // bad checksum, too long, not for this receiver
	Repeated            int // data frames dropped because their ack had been lost
	Retries             int // data frames sent again
	Dropped             int // data frames given up
	AcksOut             int
	Offers, Loads       int
	PingsEchoed         int // its own pings that came back as they were
	NAKs                int // refusals of the module
	Confirms            int
	PeerRestarts        int // frames with sequence number 0
	PagesWritten        int
	SectorsErased       int
}

func (c *MCUConfig) setDefaults() {
	if c.Version == "" {
		c.Version = DefaultMCUVersion
	}
	if c.VersionProperty == "" {
		c.VersionProperty = DefaultVersionProperty
	}
	setDefault(&c.SlotSize, DefaultSlotSize)
	setDefault(&c.SectorSize, DefaultSectorSize)
	setDefault(&c.PageSize, DefaultPageSize)
	setDefault(&c.RxLimit, tlv.MaxPayload)
	for _, t := range []struct {
		v *time.Duration
		d time.Duration
	}{
		{&c.EraseTime, DefaultEraseTime}, {&c.WriteTime, DefaultWriteTime}, {&c.VerifyTime, DefaultVerifyTime},
		{&c.BootTime, DefaultBootTime}, {&c.ConfirmAfter, DefaultConfirmAfter}, {&c.AckTimeout, DefaultAckTimeout},
	} {
		if *t.v == 0 {
			*t.v = t.d
		}
		*t.v = max(*t.v, 0)
	}
	if c.Retries == 0 {
		c.Retries = DefaultRetries
	}
	if c.Image == nil {
		c.Image = BuildDemoImage(c.Version, MinDemoImage, c.Seed)
	}
}
