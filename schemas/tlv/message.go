package tlv

// Each Parse function reads the TLVs of one operation. It takes them in any
// order, passes over types that it does not know, refuses a TLV that is
// missing, malformed or doubled, and returns an *Error. That the packet is of
// the operation is the caller's switch on Packet.Op to know.

// Offer is the content of an OpOTA from the module: an image is available.
type Offer struct {
	Version string
	Size    uint32 // bytes
}

// ParseOffer reads an OpOTA as an MCU receives it.
func ParseOffer(p Packet) (Offer, error) {
	var o Offer
	c := p.Cursor()
	for c.Next() {
		switch c.Type() {
		case TypeText:
			if c.once() {
				o.Version = c.Text()
			}
		case TypeLen:
			if c.once() {
				o.Size = c.Uint32()
			}
		}
	}
	c.require(OpOTA, TypeText)
	c.require(OpOTA, TypeLen)
	if c.Err() == nil && o.Version == "" {
		c.fail(wrong(CodeInvalidTLV, "%v with an empty version", OpOTA))
	}
	if err := c.Err(); err != nil {
		return Offer{}, err
	}
	return o, nil
}

// ParseEmpty reads an operation that has no TLVs of its own: the MCU's OpOTA
// (go ahead) and OpListenEnable.
func ParseEmpty(p Packet) error {
	c := p.Cursor()
	for c.Next() {
	}
	return c.Err()
}

// Load is the content of an OpOTALoad: a piece of the image.
type Load struct {
	Offset uint32
	Data   []byte // 1 to 255 bytes, not copied
}

// ParseLoad reads an OpOTALoad.
func ParseLoad(p Packet) (Load, error) {
	var l Load
	c := p.Cursor()
	for c.Next() {
		switch c.Type() {
		case TypeOff:
			if c.once() {
				l.Offset = c.Uint32()
			}
		case TypeBin:
			if c.once() {
				l.Data = c.Bytes()
			}
		}
	}
	c.require(OpOTALoad, TypeOff)
	c.require(OpOTALoad, TypeBin)
	if c.Err() == nil && len(l.Data) == 0 {
		c.fail(wrong(CodeInvalidTLV, "%v without data", OpOTALoad))
	}
	if err := c.Err(); err != nil {
		return Load{}, err
	}
	return l, nil
}

// ParseStat reads an OpOTAStat.
func ParseStat(p Packet) (Code, error) {
	var code Code
	c := p.Cursor()
	for c.Next() {
		if c.Type() == TypeErr && c.once() {
			code = c.Code()
		}
	}
	c.require(OpOTAStat, TypeErr)
	return code, c.Err()
}

// ParseBoot reads an OpOTABoot. An empty version means the newest image.
func ParseBoot(p Packet) (version string, err error) {
	c := p.Cursor()
	for c.Next() {
		if c.Type() == TypeText && c.once() {
			version = c.Text()
		}
	}
	if err := c.Err(); err != nil {
		return "", err
	}
	return version, nil
}

// NAK is the content of an OpNAK or OpControlNAK.
type NAK struct {
	// Code is CodeOK if there was no ERR.
	Code Code
	// Features are what an MCU that was asked for them can do; they count only
	// if HasFeatures.
	Features    Features
	HasFeatures bool
}

// ParseNAK reads an OpNAK or OpControlNAK; it needs an ERR or a FEATURES.
func ParseNAK(p Packet) (NAK, error) {
	var n NAK
	c := p.Cursor()
	for c.Next() {
		switch c.Type() {
		case TypeErr:
			if c.once() {
				n.Code = c.Code()
			}
		case TypeFeatures:
			if c.once() {
				n.Features, n.HasFeatures = c.Features(), true
			}
		}
	}
	if !n.HasFeatures {
		c.require(p.Op, TypeErr)
	}
	if err := c.Err(); err != nil {
		return NAK{}, err
	}
	return n, nil
}

// ParseSendProp reads an OpSendProp: the name of the property that is asked for.
func ParseSendProp(p Packet) (name string, err error) {
	c := p.Cursor()
	for c.Next() {
		if c.Type() == TypeName && c.once() {
			name = c.Text()
		}
	}
	c.require(OpSendProp, TypeName)
	if c.Err() == nil && name == "" {
		c.fail(wrong(CodeInvalidName, "%v with an empty name", OpSendProp))
	}
	return name, c.Err()
}

// ParseConnect reads an OpConnect.
func ParseConnect(p Packet) (Nodes, error) {
	var n Nodes
	c := p.Cursor()
	for c.Next() {
		if c.Type() == TypeNodes && c.once() {
			n = c.Nodes()
		}
	}
	c.require(OpConnect, TypeNodes)
	return n, c.Err()
}

// ParseConfirm reads an OpConfirm: CodeOK unless it carries an ERR.
func ParseConfirm(p Packet) (Code, error) {
	var code Code
	c := p.Cursor()
	for c.Next() {
		if c.Type() == TypeErr && c.once() {
			code = c.Code()
		}
	}
	return code, c.Err()
}
