package trust

import (
	"encoding/hex"
	"slices"
)

// smallOrder are the points of edwards25519 whose order divides eight, as the
// y coordinate in little-endian order, each once: a key with one of them, with
// either sign of x, agrees with signatures that anybody can make. The first is
// the zero value of a key.
var smallOrder = [][32]byte{
	{},
	{1},
	fromHex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
	fromHex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
	fromHex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
}

func fromHex(s string) [32]byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return [32]byte(b)
}

// weak says that the key is a point of small order, or written with a coordinate
// beyond the field's prime, which would be a second form of another key. Ed25519
// as most libraries have it verifies with such keys.
func (a PublicKey) weak() bool {
	y := a.key
	y[31] &= 0x7f // the sign of x
	return slices.Contains(smallOrder, y) || beyondPrime(y)
}

// beyondPrime says whether y is not below 2^255 - 19.
func beyondPrime(y [32]byte) bool {
	for _, b := range y[1:31] {
		if b != 0xff {
			return false
		}
	}
	return y[31] == 0x7f && y[0] >= 0xed
}
