package sim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestFlashBehavesLikeCells drives Flash beside the simplest model of flash: a
// cell is the AND of what was programmed since it was erased.
func TestFlashBehavesLikeCells(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		page := rapid.SampledFrom([]int{1, 4, 16}).Draw(t, "page")
		sector := page * rapid.IntRange(1, 4).Draw(t, "pages")
		size := sector * rapid.IntRange(1, 4).Draw(t, "sectors")
		f := NewFlash(size, page, sector)
		model := bytes.Repeat([]byte{0xff}, size)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "erase") {
				i := rapid.IntRange(-1, size/sector).Draw(t, "sector")
				err := f.Erase(i)
				if ok := i >= 0 && i < size/sector; ok != (err == nil) {
					t.Fatalf("erase sector %d of %d: %v", i, size/sector, err)
				} else if ok {
					fill(model[i*sector:(i+1)*sector], 0xff)
				}
				continue
			}
			off := rapid.IntRange(-page, size+page).Draw(t, "off")
			data := rapid.SliceOfN(rapid.Byte(), 1, page+1).Draw(t, "data")
			err := f.Program(off, data)
			if off < 0 || off%page != 0 || len(data) > page || off+len(data) > size {
				if !errors.Is(err, ErrFlashRange) {
					t.Fatalf("program %d bytes at %d: %v", len(data), off, err)
				}
				continue
			}
			clean := true
			for i, b := range data {
				model[off+i] &= b
				clean = clean && model[off+i] == b
			}
			if clean != (err == nil) || !clean && !errors.Is(err, ErrNotErased) {
				t.Fatalf("program over old bits: %v, want an error: %v", err, !clean)
			}
		}
		if !bytes.Equal(f.Bytes(size), model) {
			t.Fatal("the cells hold something else than the model")
		}
		for i := range size / sector {
			if want := bytes.Count(model[i*sector:(i+1)*sector], []byte{0xff}) == sector; f.Erased(i) != want {
				t.Fatalf("sector %d erased: %v", i, f.Erased(i))
			}
		}
	})
}

func TestDemoImage(t *testing.T) {
	for _, size := range []int{MinDemoImage, MinDemoImage + 1, 5000, 1<<16 - 1, 1 << 16, 1<<16 + 1, 100_003} {
		image := BuildDemoImage("3.1.4-rc1", size, 42)
		h, ok := ReadDemoHeader(image)
		if len(image) != size || !ok || h.Version != "3.1.4-rc1" || h.Size != size {
			t.Errorf("%d bytes: %d, header %+v, %v", size, len(image), h, ok)
		}
		if err := CheckDemoImage(image); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
		if !bytes.Equal(image, BuildDemoImage("3.1.4-rc1", size, 42)) || bytes.Equal(image, BuildDemoImage("3.1.4-rc1", size, 43)) {
			t.Errorf("%d bytes: the seed does not decide the bytes", size)
		}
	}
}

// TestDemoImageLayout reads the fields where section 9 says that they are.
func TestDemoImageLayout(t *testing.T) {
	small, large := BuildDemoImage("1.2", 1000, 1), BuildDemoImage("1.2", 70_000, 1)
	le := binary.LittleEndian
	if le.Uint32(small[0x188:]) != 0xbfa43640 || le.Uint16(small[0x18e:]) != 1000 || le.Uint32(large[0x188:]) != 0xbfa43641 || le.Uint32(large[0x18c:]) != 70_000 {
		t.Error("magic or size is not in its place")
	}
	for _, image := range [][]byte{small, large} {
		if version := image[0x190 : 0x190+72]; !bytes.Equal(version, append([]byte("1.2"), make([]byte, 69)...)) {
			t.Errorf("version field % x", version)
		}
	}
	if crc32.Update(0, crc32.IEEETable, large) != 0xffffffff { // the inversion of a zero
		t.Error("the CRC-32 of the whole large image is not zero")
	}
	zeroed := slices.Clone(small)
	le.PutUint16(zeroed[0x18c:], 0)
	if crc16(zeroed) != le.Uint16(small[0x18c:]) {
		t.Error("the CRC-16 does not agree with the field at zero")
	}
	if crc16([]byte("123456789")) != 0x29b1 { // the published check value of CRC-16/CCITT-FALSE
		t.Errorf("crc16 of the check string is %#04x", crc16([]byte("123456789")))
	}
}

// TestDemoImageNoticesEveryBit: any single bit that is wrong is noticed, unless
// it makes the magic another number, which says that there is nothing to check.
func TestDemoImageNoticesEveryBit(t *testing.T) {
	for _, size := range []int{MinDemoImage, 1 << 16} {
		image := BuildDemoImage("2.0.0", size, 7)
		step := max(1, size*8/4000)
		for bit := 0; bit < size*8; bit += step {
			image[bit/8] ^= 1 << (bit % 8)
			_, marked := ReadDemoHeader(image)
			if err := CheckDemoImage(image); marked && !errors.Is(err, ErrDemoImage) {
				t.Errorf("%d bytes, bit %d: %v", size, bit, err)
			}
			image[bit/8] ^= 1 << (bit % 8)
		}
		for _, cut := range [][]byte{image[:len(image)-1], append(slices.Clone(image), 0)} {
			if err := CheckDemoImage(cut); len(cut) >= MinDemoImage && !errors.Is(err, ErrDemoImage) {
				t.Errorf("%d bytes instead of %d: %v", len(cut), size, err)
			}
		}
	}
	if err := CheckDemoImage([]byte("some other firmware")); err != nil {
		t.Errorf("an image without the magic: %v", err)
	}
}
