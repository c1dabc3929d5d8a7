package orchestrator

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
)

// executionIDs makes the ids of one transaction's executions. They begin with the
// second of their making, so that those of a job are neighbours in the store: a
// million of them in no order would rewrite a page of the store for each. Then come
// 45 random bits, which no other transaction of that second has, and a number.
type executionIDs struct {
	begun [2 * idPart]byte // second and random bits
	next  uint32
}

// idPart is a part of an id in bytes, idCount what can be numbered behind one
// beginning: 20 bits.
const (
	idPart  = 8
	idCount = 1 << 20
)

// inOrder writes five bits as a character, in the order of the numbers.
var inOrder = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// executionID returns a new id: ex- and 7 characters of time, 9 random ones and 4 of
// a number.
func (t *txn) executionID() string {
	ids := &t.ids
	if ids.next%idCount == 0 {
		binary.BigEndian.PutUint64(ids.begun[:], uint64(t.now.Unix())<<29) // 35 bits to the front
		binary.BigEndian.PutUint64(ids.begun[idPart:], t.random())
	}
	n := ids.next % idCount
	ids.next++
	var text [13 + 13]byte
	inOrder.Encode(text[:], ids.begun[:idPart])
	inOrder.Encode(text[13:], ids.begun[idPart:])
	var number [idPart]byte
	binary.BigEndian.PutUint64(number[:], uint64(n)<<44)
	var last [13]byte
	inOrder.Encode(last[:], number[:])
	return "ex-" + string(text[:7]) + string(text[13:22]) + string(last[:4])
}

// random is a number that nobody can guess.
func random() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:])
}
