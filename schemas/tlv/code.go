package tlv

import (
	"errors"
	"fmt"
)

// Code is an AERR code: the value of an ERR TLV (docs/wire.md section 4).
type Code byte

// The codes.
const (
	CodeOK            Code = 0x00
	CodeTimeout       Code = 0x01
	CodeLength        Code = 0x02 // on an offer: the image is too big
	CodeUnknownType   Code = 0x03
	CodeUnknownVar    Code = 0x04
	CodeInvalidTLV    Code = 0x05
	CodeInvalidOp     Code = 0x06
	CodeInvalidDP     Code = 0x07
	CodeInvalidOffset Code = 0x08
	CodeInvalidReq    Code = 0x09
	CodeInvalidName   Code = 0x0a
	CodeConnection    Code = 0x0b
	CodeServiceBusy   Code = 0x0c
	CodeInternal      Code = 0x0d // for example a flash write that failed
	CodeChecksum      Code = 0x0e
	CodeAlready       Code = 0x0f // runs this image already
	CodeBoot          Code = 0x10 // did not boot to the new image
	CodeOverflow      Code = 0x11
	CodeBusyRetry     Code = 0x19
)

// text returns the name of the code in the documents and a sentence for a
// person, or two empty strings.
func (c Code) text() (name, sentence string) {
	switch c {
	case CodeOK:
		return "OK", "no error"
	case CodeTimeout:
		return "TIMEOUT", "the time limit ran out"
	case CodeLength:
		return "LEN_ERR", "a length is wrong, or the image is too big"
	case CodeUnknownType:
		return "UNK_TYPE", "the type is not known"
	case CodeUnknownVar:
		return "UNK_VAR", "the variable is not known"
	case CodeInvalidTLV:
		return "INVAL_TLV", "a TLV is malformed, missing or out of place"
	case CodeInvalidOp:
		return "INVAL_OP", "the opcode is not known or not allowed now"
	case CodeInvalidDP:
		return "INVAL_DP", "the datapoint is not valid"
	case CodeInvalidOffset:
		return "INVAL_OFF", "the offset is not the one expected"
	case CodeInvalidReq:
		return "INVAL_REQ", "the request is out of sequence"
	case CodeInvalidName:
		return "INVAL_NAME", "there is no property of that name"
	case CodeConnection:
		return "CONN_ERR", "the connection to the service failed"
	case CodeServiceBusy:
		return "ADS_BUSY", "the service is busy"
	case CodeInternal:
		return "INTERNAL", "internal error, for example a flash write that failed"
	case CodeChecksum:
		return "CHECKSUM", "the checksum or signature of the image does not agree"
	case CodeAlready:
		return "ALREADY", "the image is running already"
	case CodeBoot:
		return "BOOT", "the new image was not booted"
	case CodeOverflow:
		return "OVERFLOW", "there is no room for the data"
	case CodeBusyRetry:
		return "BUSY_RETRY", "busy, try again later"
	}
	return "", ""
}

// String returns the name of the code in the documents, for example "CHECKSUM",
// or its number.
func (c Code) String() string {
	if name, _ := c.text(); name != "" {
		return name
	}
	return fmt.Sprintf("code %#02x", byte(c))
}

// Sentence says in plain words what the code means.
func (c Code) Sentence() string {
	if _, s := c.text(); s != "" {
		return s
	}
	return fmt.Sprintf("error code %#02x, which the documents do not name", byte(c))
}

// Known says whether the documents name the code.
func (c Code) Known() bool {
	name, _ := c.text()
	return name != ""
}

// Error is a packet that cannot be read, or a value that cannot be sent: the
// code that a peer would be told, and what is wrong in words.
type Error struct {
	Code Code
	Text string
}

// Error returns the text and the code's name.
func (e *Error) Error() string { return e.Text + " (" + e.Code.String() + ")" }

func wrong(c Code, format string, args ...any) error {
	return &Error{Code: c, Text: fmt.Sprintf(format, args...)}
}

// CodeOf returns the code of the Error in err's chain: CodeOK if err is nil,
// CodeInternal if there is none.
func CodeOf(err error) Code {
	if err == nil {
		return CodeOK
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}
