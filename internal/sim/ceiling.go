package sim

import "davit/schemas/tlv"

// LoadBytes is what an image takes on the Ayla-compatible wire: the bytes of its LOADs, each as long as it can be,
// stuffing and both flags included, and those of the acks that answer them (docs/wire.md section 6).
func LoadBytes(image []byte) (loads, acks int) {
	var packet, frame []byte
	seq := byte(3) // after the offer, as a session has it; it decides what is stuffed
	for at := 0; at < len(image); at += tlv.MaxLoad {
		// Neither can fail: the piece is never empty or too long.
		packet, _ = tlv.AppendLoad(packet[:0], uint16(at/tlv.MaxLoad+5), uint64(at), image[at:min(at+tlv.MaxLoad, len(image))])
		frame, _ = tlv.AppendFrame(frame[:0], tlv.Frame{Type: tlv.FrameData, Seq: seq, Payload: packet})
		loads += len(frame)
		frame, _ = tlv.AppendFrame(frame[:0], tlv.Frame{Type: tlv.FrameAck, Seq: seq})
		acks += len(frame)
		seq = tlv.NextSeq(seq)
	}
	return loads, acks
}
