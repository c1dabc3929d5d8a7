package tlv

// Decoder finds the frames in a stream of bytes that arrives in any pieces.
// The zero value is ready: it skips everything up to the first flag.
//
//	d.Feed(piece)
//	for d.Next() {
//		f, err := d.Frame()
//		...
//	}
//
// Its memory is fixed. After a bad frame it goes on at the next flag.
type Decoder struct {
	in    []byte
	frame Frame
	err   error
	state decoderState
	n     int // bytes held in buf
	buf   [MaxPayload + frameOverhead]byte
}

type decoderState byte

const (
	stateHunt   decoderState = iota // drop bytes up to a flag
	stateBody                       // between flags
	stateEscape                     // the byte before was an escape
)

// Feed hands the decoder the next bytes of the stream. It keeps b, without a
// copy, until Next has returned false; bytes of an earlier piece that Next has
// not reached are lost.
func (d *Decoder) Feed(b []byte) { d.in = b }

// Reset drops the input and the frame under way and hunts for a flag.
func (d *Decoder) Reset() {
	d.in, d.frame, d.err, d.state, d.n = nil, Frame{}, nil, stateHunt, 0
}

// Frame returns what Next found: a frame, or an error that wraps ErrFrame. The
// payload is valid until the next call of Next.
func (d *Decoder) Frame() (Frame, error) { return d.frame, d.err }

// Partial says whether the decoder holds the beginning of a frame, for a caller
// that wants to know whether a silent line stopped in the middle of one.
func (d *Decoder) Partial() bool {
	return d.n > 0 || d.state == stateEscape
}

// Next goes on to the next frame, good or bad, and returns false when it has
// used up its input. Flags in a row are empty frames and are passed over.
func (d *Decoder) Next() bool {
	d.frame, d.err = Frame{}, nil
	for len(d.in) > 0 {
		if d.step() {
			return true
		}
	}
	d.in = nil
	return false
}

// step uses up one run of plain bytes or one byte with a meaning, and says
// whether a frame ended, well or badly.
func (d *Decoder) step() bool {
	if d.state != stateEscape {
		run := plainRun(d.in)
		over := d.state == stateBody && !d.hold(d.in[:run])
		d.in = d.in[run:]
		if over {
			return d.tooLong()
		}
		if len(d.in) == 0 {
			return false
		}
	}
	c := d.in[0]
	d.in = d.in[1:]
	switch {
	case c == flagByte:
		return d.flag()
	case d.state == stateHunt:
		return false
	case d.state == stateBody: // an escape
		d.state = stateEscape
		return false
	}
	d.state = stateBody
	if d.n == len(d.buf) {
		return d.tooLong()
	}
	d.buf[d.n] = c ^ escapeXOR
	d.n++
	return false
}

// hold copies b behind what is held, unless that is too much.
func (d *Decoder) hold(b []byte) bool {
	if len(b) > len(d.buf)-d.n {
		return false
	}
	d.n += copy(d.buf[d.n:], b)
	return true
}

func (d *Decoder) tooLong() bool {
	d.state, d.n, d.err = stateHunt, 0, ErrTooLong
	return true
}

// flag ends the frame that is held, if any, and begins the next.
func (d *Decoder) flag() bool {
	state, n := d.state, d.n
	d.state, d.n = stateBody, 0
	switch {
	case state == stateHunt:
		return false
	case state == stateEscape:
		d.err = ErrEscape
	case n == 0:
		return false
	case n < frameOverhead:
		d.err = ErrShort
	case updateCRC(crcStart, d.buf[:n]) != 0: // run over its own CRC it is 0
		d.err = ErrCRC
	case FrameType(d.buf[0]) != FrameData && FrameType(d.buf[0]) != FrameAck:
		d.err = ErrFrameType
	default:
		d.frame = Frame{Type: FrameType(d.buf[0]), Seq: d.buf[1], Payload: d.buf[2 : n-2 : n-2]}
	}
	return true
}
