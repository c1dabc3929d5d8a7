package sniff

import (
	"fmt"
	"strings"

	"davit/bridge/recording"
	"davit/schemas/tlv"
)

// AylaPacket puts the payload of a data frame in words. The error says why it
// cannot be read.
func AylaPacket(from recording.Side, payload []byte) (string, error) {
	p, err := tlv.ParsePacket(payload)
	if err != nil {
		return "", err
	}
	text, err := aylaContent(from, p)
	if err != nil {
		return "", fmt.Errorf("%v (request %d): %w", p.Op, p.Req, err)
	}
	if text != "" {
		text = ": " + text
	}
	return fmt.Sprintf("%v (request %d)%s", p.Op, p.Req, text), nil
}

// aylaContent is what stands behind the head of a packet.
func aylaContent(from recording.Side, p tlv.Packet) (string, error) {
	switch p.Op {
	case tlv.OpOTA:
		if from == recording.FromMCU {
			return "go ahead", tlv.ParseEmpty(p)
		}
		o, err := tlv.ParseOffer(p)
		return fmt.Sprintf("version %q, %d bytes", o.Version, o.Size), err
	case tlv.OpOTALoad:
		l, err := tlv.ParseLoad(p)
		return fmt.Sprintf("%s at %d", plural(len(l.Data)), l.Offset), err
	case tlv.OpOTAStat:
		c, err := tlv.ParseStat(p)
		return aylaCode(c), err
	case tlv.OpOTABoot:
		v, err := tlv.ParseBoot(p)
		if v == "" {
			return "the newest image", err
		}
		return fmt.Sprintf("version %q", v), err
	case tlv.OpNAK, tlv.OpControlNAK:
		return aylaNAK(p)
	case tlv.OpSendProp:
		if len(p.TLVs) == 0 {
			return "features", nil // asked for without a name
		}
		name, err := tlv.ParseSendProp(p)
		return fmt.Sprintf("%q", name), err
	case tlv.OpSendTLV:
		return aylaProp(p)
	case tlv.OpConnect:
		n, err := tlv.ParseConnect(p)
		return aylaNodes(n), err
	case tlv.OpListenEnable:
		return "", tlv.ParseEmpty(p)
	case tlv.OpConfirm:
		c, err := tlv.ParseConfirm(p)
		return aylaCode(c), err
	}
	if p.Op.Protocol() == tlv.ProtocolPing {
		return inHex(p.TLVs), nil
	}
	return aylaTLVs(p)
}

func aylaCode(c tlv.Code) string { return fmt.Sprintf("%v, %s", c, c.Sentence()) }

func aylaNAK(p tlv.Packet) (string, error) {
	n, err := tlv.ParseNAK(p)
	if err != nil || !n.HasFeatures {
		return aylaCode(n.Code), err
	}
	text := aylaFeatures(n.Features)
	if n.Code != tlv.CodeOK {
		text += "; " + aylaCode(n.Code)
	}
	return text, nil
}

func aylaFeatures(f tlv.Features) string {
	words := []string{}
	for _, b := range []struct {
		bit  tlv.Features
		word string
	}{{tlv.FeatureLAN, "LAN"}, {tlv.FeatureOTA, "OTA"}, {tlv.FeatureTime, "time"}, {tlv.FeatureConfirm, "confirm"}} {
		if f&b.bit != 0 {
			words = append(words, b.word)
			f &^= b.bit
		}
	}
	if f != 0 {
		words = append(words, fmt.Sprintf("%#02x", byte(f)))
	}
	if len(words) == 0 {
		words = append(words, "none")
	}
	return "features " + strings.Join(words, ", ")
}

func aylaNodes(n tlv.Nodes) string {
	switch n {
	case 0:
		return "nothing can be reached"
	case tlv.NodeCloud:
		return "the service can be reached"
	}
	return fmt.Sprintf("destinations %#02x", byte(n))
}

// aylaProp is a property, or a part of one.
func aylaProp(p tlv.Packet) (string, error) {
	v, err := tlv.ParseProp(p)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%q = %s", v.Name, joined(aylaValue(v), aylaPart(v))), nil
}

// aylaPart says which part of a value it is.
func aylaPart(v tlv.Prop) string {
	var parts []string
	if v.First {
		parts = append(parts, fmt.Sprintf("the first part of %d bytes", v.Total))
	}
	if v.Later {
		parts = append(parts, fmt.Sprintf("from byte %d on", v.Offset))
	}
	if v.Last {
		parts = append(parts, "the last part")
	}
	return joined(parts...)
}

func aylaValue(v tlv.Prop) string {
	switch v.Type {
	case tlv.TypeInt:
		n, _ := v.Int() // ParseProp has looked at it
		return fmt.Sprint(n)
	case tlv.TypeBool:
		b, _ := v.Bool()
		return fmt.Sprint(b)
	case tlv.TypeText:
		return fmt.Sprintf("%q", v.Value)
	}
	return inHex(v.Value)
}

// aylaTLVs is the content of an operation that is not known.
func aylaTLVs(p tlv.Packet) (string, error) {
	var all []string
	c := p.Cursor()
	for c.Next() {
		switch t := c.Type(); t {
		case tlv.TypeName, tlv.TypeText:
			all = append(all, fmt.Sprintf("%v %q", t, c.Bytes()))
		default:
			all = append(all, strings.TrimSpace(fmt.Sprintf("%v %s", t, inHex(c.Bytes()))))
		}
	}
	return strings.Join(all, "; "), c.Err()
}
