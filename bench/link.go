package main

import (
	"errors"
	"fmt"
	"net"
	"time"

	"davit/schemas"
)

// link is an MQTT 3.1.1 connection that is subscribed to the chunks of one device. One
// goroutine reads it.
type link struct {
	conn   net.Conn
	stream chunkStream
	began  chan error // the answer to CONNECT and SUBSCRIBE
	ended  chan struct{}
}

// dialLink connects and subscribes. arrived is called for each chunk that was compared,
// lost once when the connection has ended, both on the link's goroutine.
func dialLink(addr, device, password string, image []byte,
	arrived func(schemas.ChunkHeader, int, time.Time) error, lost func(error)) (*link, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	l := &link{conn: conn, began: make(chan error, 2), ended: make(chan struct{})}
	l.stream = chunkStream{
		topic: schemas.Topic{Device: device, Kind: schemas.KindChunk}.String(), image: image, arrived: arrived, control: l.control,
	}
	b := appendConnect(nil, device, device, password)
	if _, err := conn.Write(appendSubscribe(b, l.stream.topic)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	go l.read(lost)
	select {
	case err = <-l.began:
	case <-time.After(patience):
		err = errors.New("no answer to CONNECT and SUBSCRIBE")
	}
	if err != nil {
		l.close()
		return nil, fmt.Errorf("device %s: %w", device, err)
	}
	return l, nil
}

func (l *link) close() {
	_ = l.conn.Close() // nothing is written any more
	<-l.ended
}

func (l *link) read(lost func(error)) {
	defer close(l.ended)
	err := l.stream.run(l.conn)
	if err == nil {
		err = errors.New("the server has closed the connection")
	}
	select {
	case l.began <- err: // if somebody still waits for that
	default:
	}
	lost(err)
}

// control takes the answers to CONNECT and SUBSCRIBE.
func (l *link) control(first byte, body []byte) error {
	switch first >> 4 {
	case 2:
		if len(body) < 2 || body[1] != 0 {
			return fmt.Errorf("CONNECT was answered with % x", body)
		}
	case 9:
		if len(body) < 3 || body[2] > 2 {
			return fmt.Errorf("SUBSCRIBE was answered with % x", body)
		}
		l.began <- nil
	default:
		return fmt.Errorf("a packet of type %d that nobody asked for", first>>4)
	}
	return nil
}
