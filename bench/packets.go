package main

import (
	"encoding/binary"
	"strconv"

	"davit/schemas"
)

// appendLength appends MQTT's variable byte integer.
func appendLength(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// appendPublishHead appends what stands before the payload of a QoS 0 PUBLISH in MQTT
// 3.1.1.
func appendPublishHead(b []byte, topic string, payload int) []byte {
	return appendString(appendLength(append(b, 3<<4), 2+len(topic)+payload), topic)
}

// appendConnect appends a CONNECT of MQTT 3.1.1 with a clean session and without a will.
func appendConnect(b []byte, client, user, password string) []byte {
	var flags byte = 2
	n := 10 + 2 + len(client)
	if user != "" {
		flags |= 0xc0
		n += 4 + len(user) + len(password)
	}
	b = appendString(appendLength(append(b, 1<<4), n), "MQTT")
	b = append(b, 4, flags)
	b = binary.BigEndian.AppendUint16(b, keepAlive)
	b = appendString(b, client)
	if user != "" {
		b = appendString(appendString(b, user), password)
	}
	return b
}

// keepAlive in seconds is longer than any measure lasts.
const keepAlive = 600

// appendSubscribe appends a SUBSCRIBE to one topic with QoS 0.
func appendSubscribe(b []byte, topic string) []byte {
	b = appendLength(append(b, 8<<4|2), 2+2+len(topic)+1)
	return append(appendString(binary.BigEndian.AppendUint16(b, 1), topic), 0)
}

// appendFetch appends the payload of a fetch as a module on a small MCU would print it.
func appendFetch(b []byte, image string, tag uint16, chunk int, ranges []schemas.Range, awaited int) []byte {
	b = append(append(append(b, `{"v":1,"image":"`...), image...), `","tag":`...)
	b = strconv.AppendUint(b, uint64(tag), 10)
	b = strconv.AppendInt(append(b, `,"chunk":`...), int64(chunk), 10)
	b = append(b, `,"ranges":[`...)
	for i, r := range ranges {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(append(b, `{"offset":`...), r.Offset, 10)
		b = append(strconv.AppendUint(append(b, `,"length":`...), r.Length, 10), '}')
	}
	b = append(b, ']')
	if awaited > 0 {
		b = strconv.AppendInt(append(b, `,"awaited":`...), int64(awaited), 10)
	}
	return append(b, '}')
}
