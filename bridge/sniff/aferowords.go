package sniff

import (
	"encoding/binary"
	"fmt"

	"davit/schemas/afpro"
)

// AferoMessage puts an attribute message in words.
func AferoMessage(m afpro.Message) string {
	head := fmt.Sprintf("%v %v", m.Type, m.Attribute)
	switch {
	case m.Type == afpro.Get:
		return fmt.Sprintf("%s, request %d", head, m.Request)
	case m.Attribute == afpro.ChannelToMCU || m.Attribute == afpro.ChannelToASR:
		return head + ": " + aferoTunnel(m)
	case m.Type == afpro.Set:
		return fmt.Sprintf("%s, request %d: %s", head, m.Request, aferoValue(m))
	case m.State != afpro.StateUpdated:
		return fmt.Sprintf("%s: %v (%v)", head, m.State, m.Reason)
	}
	return fmt.Sprintf("%s: %s (%v)", head, aferoValue(m), m.Reason)
}

func aferoValue(m afpro.Message) string {
	switch n := len(m.Value); {
	case m.Attribute == afpro.ASRState && n == 1:
		return aferoState(m.Value[0])
	case m.Attribute == afpro.SystemCommand, m.Attribute == afpro.ASRCapabilities:
		return inHex(m.Value)
	case n > 8:
		return fmt.Sprintf("%d bytes", n)
	}
	var v [8]byte
	copy(v[:], m.Value)
	return fmt.Sprint(binary.LittleEndian.Uint64(v[:]))
}

// aferoState is a value of the ASR state.
func aferoState(s byte) string {
	switch s {
	case afpro.ASRRebooted:
		return "rebooted"
	case afpro.ASRLinked:
		return "linked"
	case afpro.ASRInitialized:
		return "initialized"
	}
	return fmt.Sprint(s)
}

// aferoTunnel puts a tunnelled attribute in words.
func aferoTunnel(m afpro.Message) string {
	a, value, err := afpro.ParseTunnel(m.Value)
	switch {
	case err != nil:
		return err.Error()
	case a == afpro.OTAInfo:
		return fmt.Sprintf("%v %s", a, aferoInfo(value))
	case a == afpro.OTATransfer && m.Attribute == afpro.ChannelToMCU:
		if offset, data, err := afpro.ParseTransfer(value); err == nil {
			return fmt.Sprintf("%v at %d: %s", a, offset, inHex(data))
		}
	case a == afpro.OTATransfer:
		switch next, err := afpro.ParseNext(value); {
		case err != nil:
		case next == afpro.StopOffset:
			return fmt.Sprintf("%v, stop", a)
		default:
			return fmt.Sprintf("%v, next offset %d", a, next)
		}
	}
	return fmt.Sprintf("%v of %d bytes", a, len(value))
}

func aferoInfo(value []byte) string {
	i, err := afpro.ParseInfo(value)
	if err != nil {
		return err.Error()
	}
	switch i.State {
	case afpro.InfoBegin:
		return fmt.Sprintf("BEGIN type %d size %d version %d", i.Type, i.Size, i.Version)
	case afpro.InfoVerify:
		return fmt.Sprintf("VERIFY SHA-256 %x...", i.SHA256[:8])
	case afpro.InfoApply:
		return fmt.Sprintf("APPLY version %d", i.Version)
	}
	return i.State.String()
}
