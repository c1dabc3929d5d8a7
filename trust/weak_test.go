package trust

import (
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/binary"
	"slices"
	"testing"
)

// TestKeysOfSmallOrder makes signatures without any secret that Ed25519 accepts
// for keys of small order, and has such keys refused wherever one can come in.
func TestKeysOfSmallOrder(t *testing.T) {
	var points [][32]byte
	for _, y := range smallOrder {
		negative := y
		negative[31] |= 0x80
		points = append(points, y, negative)
	}
	for _, y := range []byte{0xed, 0xee, 0xff} { // 0, 1 and 18, written beyond the prime
		points = append(points, fromHex("00ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"))
		points[len(points)-1][0] = y
	}
	forgeable := 0
	for _, point := range points {
		if forge(point, points) {
			forgeable++
		}
		key := PublicKey{ID: 7, key: point}
		if !key.weak() {
			t.Errorf("%x passes for a key", point)
		}
		_, err := ParsePublicKey(key.String())
		refused(t, err, ErrMalformed)
		refused(t, KeySet{[]PublicKey{key}, 1}.Validate(), ErrPolicy)
		l := listOf(1, newKeys(t, 1), nil)
		l.Keys = append(l.Keys, ListedKey{key, RoleImages, nil})
		_, err = l.Encode()
		refused(t, err, ErrMalformed)
	}
	// The eight points, of which two have both signs of x for one encoding, and what
	// is written beyond the prime for two of them.
	if forgeable < 8 {
		t.Errorf("signatures could be made for %d of them only: the table is not of points of small order", forgeable)
	}
	refused(t, KeySet{[]PublicKey{{}}, 1}.Validate(), ErrPolicy)
	for range 100 {
		if newKey(t).Public().weak() {
			t.Fatal("a good key passes for a weak one")
		}
	}
}

// forge tries to make a signature for the key without a secret: with s = 0 it
// agrees when R is the key taken a number of times that the text decides, of
// which there are eight at most.
func forge(key [32]byte, points [][32]byte) bool {
	for n := range uint64(64) {
		message := sha512.Sum512(binary.LittleEndian.AppendUint64(nil, n))
		for _, r := range points {
			if ed25519.Verify(key[:], message[:], append(slices.Clone(r[:]), make([]byte, 32)...)) {
				return true
			}
		}
	}
	return false
}
