package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// httpClient is a connection to nginx that is kept alive. One goroutine of its own
// reads, as that of a module does.
type httpClient struct {
	conn  net.Conn
	image []byte
	buf   []byte
	took  time.Duration // of the last download
}

func dialHTTP(addr string, image []byte) (*httpClient, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	return &httpClient{conn: conn, image: image, buf: make([]byte, readBuffer)}, nil
}

var httpRequest = []byte("GET " + imagePath + " HTTP/1.1\r\nHost: bench\r\n\r\n")

// download gets the image once and compares it.
func (c *httpClient) download() error {
	began := time.Now()
	if _, err := c.conn.Write(httpRequest); err != nil {
		return err
	}
	kept, end := 0, -1
	for end < 0 {
		n, err := c.conn.Read(c.buf[kept:])
		if err != nil {
			return err
		}
		kept += n
		if end = bytes.Index(c.buf[:kept], []byte("\r\n\r\n")); end < 0 && kept == len(c.buf) {
			return errors.New("an HTTP header without end")
		}
	}
	if err := checkHeader(c.buf[:end], len(c.image)); err != nil {
		return err
	}
	at := 0
	for b := c.buf[end+4 : kept]; ; {
		if at+len(b) > len(c.image) || !bytes.Equal(b, c.image[at:at+len(b)]) {
			return fmt.Errorf("WRONG BYTES from %d of the image on", at)
		}
		if at += len(b); at == len(c.image) {
			c.took = time.Since(began)
			return nil
		}
		n, err := c.conn.Read(c.buf)
		if err != nil {
			return err
		}
		b = c.buf[:n]
	}
}

func checkHeader(h []byte, size int) error {
	if !bytes.HasPrefix(h, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("the server answered %q", h)
	}
	_, rest, ok := bytes.Cut(h, []byte("Content-Length: "))
	value, _, _ := bytes.Cut(rest, []byte("\r\n"))
	if n, err := strconv.Atoi(string(value)); !ok || err != nil || n != size {
		return fmt.Errorf("an answer that is not of %d bytes: %q", size, h)
	}
	return nil
}

// downloadAll has every client get the image at the same time.
func downloadAll(ctx context.Context, clients []*httpClient) (o outcome, err error) {
	ctx, cancel := context.WithTimeout(ctx, courseLimit)
	defer cancel()
	ended := make(chan error, len(clients))
	for _, c := range clients {
		go func() { ended <- c.download() }()
	}
	for range clients {
		select {
		case e := <-ended:
			err = errors.Join(err, e)
		case <-ctx.Done():
			return o, ctx.Err()
		}
	}
	o.until = time.Now()
	for _, c := range clients {
		o.whole.add(c.took, 1)
	}
	return o, err
}
