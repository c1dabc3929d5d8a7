package replay

import (
	"crypto/sha256"
	"strconv"
	"strings"

	"davit/bridge/sniff"
	"davit/schemas/afpro"
	"davit/schemas/tlv"
)

// said is what a frame of the bridge tells the replay.
type said struct {
	class    class
	offer    *offer
	property string // a version property that it asks for
	reported bool   // and that the MCU had reported by itself
}

// reader understands what both sides said in a recording.
type reader interface {
	bridge(p sniff.Packet) (said, error)
	// mcu returns the version that the MCU reports, "" for anything else.
	mcu(p sniff.Packet) (version string)
}

// newReader returns the reader for a dialect, nil if there is none.
func newReader(dialect string) reader {
	switch dialect {
	case sniff.Ayla:
		return &aylaReader{}
	case sniff.Afero:
		return &aferoReader{reported: map[afpro.Attribute]bool{}}
	}
	return nil
}

// offer is an update as the line shows it.
type offer struct {
	version   string // of ayla
	versionID uint64 // of afero, with the type
	kind      int
	size      uint64
	*transfer
}

// transfer is what went down the line of one image.
type transfer struct {
	image image
	chunk int    // bytes of the first piece, 0 if there was none
	from  uint64 // its offset
	sum   [sha256.Size]byte
}

// same says whether two offers are of the same update.
func (o *offer) same(other *offer) bool {
	return other != nil && o.version == other.version && o.versionID == other.versionID && o.kind == other.kind && o.size == other.size
}

// take has the newest offer be o, or the one before once more.
func take(last **offer, o offer) *offer {
	if *last == nil || !o.same(*last) {
		o.transfer = &transfer{}
		*last = &o
	}
	return *last
}

// piece takes a piece of the image that was offered last.
func (o *offer) piece(offset uint64, data []byte) error {
	if o == nil {
		return nil
	}
	if o.chunk == 0 {
		o.chunk, o.from = len(data), offset
	}
	if !o.image.put(offset, data) {
		return errScattered
	}
	return nil
}

// name is the version in words.
func (o *offer) name() string {
	if o.versionID > 0 {
		return strconv.FormatUint(o.versionID, 10)
	}
	return o.version
}

// digest is the SHA-256 of the image, as far as that is known.
func (o *offer) digest() [sha256.Size]byte {
	if sum, ok := o.image.sum(o.size); ok {
		return sum
	}
	return o.sum
}

// aylaReader reads the ayla dialect.
type aylaReader struct{ last *offer }

func (r *aylaReader) mcu(p sniff.Packet) string {
	if len(p.Content) < 2 || tlv.FrameType(p.Content[0]) != tlv.FrameData {
		return ""
	}
	packet, err := tlv.ParsePacket(p.Content[2:])
	if err != nil || packet.Op != tlv.OpSendTLV {
		return ""
	}
	prop, err := tlv.ParseProp(packet)
	if err != nil || !prop.Whole() {
		return ""
	}
	version, err := prop.Text()
	if err != nil {
		return "" // a number, or a switch
	}
	return version
}

func (r *aylaReader) bridge(p sniff.Packet) (said, error) {
	if len(p.Content) < 2 || tlv.FrameType(p.Content[0]) != tlv.FrameData {
		return said{}, nil
	}
	it := said{class: classMessage}
	packet, err := tlv.ParsePacket(p.Content[2:])
	if err != nil {
		return it, nil
	}
	switch packet.Op {
	case tlv.OpOTA:
		if o, err := tlv.ParseOffer(packet); err == nil {
			it.class, it.offer = classOffer, take(&r.last, offer{version: o.Version, size: uint64(o.Size)})
		}
	case tlv.OpOTALoad:
		if l, err := tlv.ParseLoad(packet); err == nil {
			it.class = classPiece
			return it, r.last.piece(uint64(l.Offset), l.Data)
		}
	case tlv.OpSendProp:
		if name, err := tlv.ParseSendProp(packet); err == nil && len(packet.TLVs) > 0 {
			it.class, it.property = classAsk, name
		}
	}
	return it, nil
}

// aferoReader reads the afero dialect.
type aferoReader struct {
	last   *offer
	verify [sha256.Size]byte // as the MCU said last
	// reported are the version attributes of which the MCU has spoken: the bridge asks
	// for those of its own accord.
	reported map[afpro.Attribute]bool
}

func (r *aferoReader) mcu(p sniff.Packet) string {
	m, value, attribute, tunnel := tunnelled(p, afpro.ChannelToASR)
	if tunnel && attribute == afpro.OTAInfo {
		if i, err := afpro.ParseInfo(value); err == nil && i.State == afpro.InfoVerify {
			r.verify = i.SHA256
		}
	}
	if m == nil || m.Type == afpro.Get {
		return ""
	}
	if _, ok := m.Attribute.FirmwareType(); !ok {
		return ""
	}
	r.reported[m.Attribute] = true
	id, err := afpro.ParseUint64(m.Value)
	if err != nil {
		return ""
	}
	return strconv.FormatUint(id, 10)
}

func (r *aferoReader) bridge(p sniff.Packet) (said, error) {
	m, value, attribute, tunnel := tunnelled(p, afpro.ChannelToMCU)
	switch {
	case m == nil:
		return said{}, nil
	case tunnel && attribute == afpro.OTAInfo:
		return r.info(value), nil
	case tunnel && attribute == afpro.OTATransfer:
		if offset, data, err := afpro.ParseTransfer(value); err == nil {
			return said{class: classPiece}, r.last.piece(uint64(offset), data)
		}
	case m.Type == afpro.Get:
		if _, ok := m.Attribute.FirmwareType(); ok {
			return said{class: classAsk, property: strconv.Itoa(int(m.Attribute)), reported: r.reported[m.Attribute]}, nil
		}
	}
	return said{class: classMessage}, nil
}

func (r *aferoReader) info(value []byte) said {
	i, err := afpro.ParseInfo(value)
	switch {
	case err != nil:
	case i.State == afpro.InfoBegin:
		return said{class: classOffer, offer: take(&r.last, offer{versionID: i.Version, kind: int(i.Type), size: uint64(i.Size)})}
	case i.State == afpro.InfoApply && r.last != nil:
		r.last.sum = r.verify // which the bridge had found to be right
	}
	return said{class: classMessage}
}

// tunnelled reads a message, and the attribute that it carries through a channel.
// The message is nil for what is none.
func tunnelled(p sniff.Packet, channel afpro.Attribute) (m *afpro.Message, value []byte, attribute afpro.Attribute, ok bool) {
	if p.Bad || len(p.Content) < 2 || len(p.Content) == afpro.SyncSize && isSync(p.Content) {
		return nil, nil, 0, false
	}
	message, err := afpro.ParseMessage(p.Content)
	if err != nil {
		return nil, nil, 0, false
	}
	if message.Attribute != channel {
		return &message, nil, 0, false
	}
	attribute, value, err = afpro.ParseTunnel(message.Value)
	return &message, value, attribute, err == nil
}

func isSync(b []byte) bool {
	_, err := afpro.ParseSync(b)
	return err == nil
}

// repeats finds retries in what the bridge sends.
type repeats struct {
	data  uint64 // the sum of the last data frame of ayla
	ready bool   // the last frame was a ready byte of afero
}

// has takes the next frame and says whether it is a retry.
func (r *repeats) has(p sniff.Packet, sum uint64) bool {
	if p.Bad || len(p.Content) == 0 {
		r.ready = false
		return false
	}
	if len(p.Content) == 1 {
		was := r.ready
		r.ready = p.Content[0] == afpro.Ready
		return was && r.ready
	}
	r.ready = false
	if tlv.FrameType(p.Content[0]) != tlv.FrameData || !strings.HasPrefix(p.Text, "data ") {
		return false
	}
	was := r.data == sum
	r.data = sum
	return was
}

// again is the mark of a retry at the end of a packet's text, "" if it has none: a
// decoder that has heard less may not know.
func again(p sniff.Packet) string {
	if strings.HasSuffix(p.Text, sniff.Again) {
		return sniff.Again
	}
	return ""
}
