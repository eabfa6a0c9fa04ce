package resumetoken

import "encoding/binary"

// The values of a number's type bits: two bits in the order of the stream, of
// which the first one is the higher.
const (
	bitsInt     = 0
	bitsLong    = 1
	bitsDouble  = 2
	bitsDecimal = 3
	// bitsUnknown means that the token has no type bits at all.
	bitsUnknown = 4
)

// typeBits are the bits of _typeBits. In a key, numbers of all types sort by
// their value, and strings with symbols; the bits hold the original type.
type typeBits struct {
	data []byte
	next int // in bits
	// absent means that all bits are zero, any number of them.
	absent bool
	// overrun means that more bits were read than there are.
	overrun bool
}

// newTypeBits reads the size in front of the bits: none if they fit in seven
// bits, else one byte, or five.
func newTypeBits(b []byte) (typeBits, error) {
	n := len(b)
	switch {
	case n == 0 || b[0] == 0:
		b, n = b[min(n, 1):], 0
	case b[0] < 0x80:
		n = 1
	case b[0] > 0x80:
		b, n = b[1:], int(b[0]&0x7F)
	case n >= 5:
		b, n = b[5:], int(binary.LittleEndian.Uint32(b[1:]))
	default:
		b, n = nil, -1
	}
	if n != len(b) {
		return typeBits{}, malformed("its _typeBits are not as long as they say")
	}
	return typeBits{data: b, absent: n == 0}, nil
}

// bit reads one bit; a byte's lowest comes first.
func (t *typeBits) bit() uint {
	if t.absent {
		return 0
	}
	i := t.next
	t.next++
	if i/8 >= len(t.data) {
		t.overrun = true
		return 0
	}
	return uint(t.data[i/8]>>(i%8)) & 1
}

// read reads n bits, the highest first.
func (t *typeBits) read(n int) (u uint) {
	for ; n > 0; n-- {
		u = u<<1 | t.bit()
	}
	return u
}

// number returns the type bits of the next number.
func (t *typeBits) number() uint {
	if t.absent {
		return bitsUnknown
	}
	return t.read(2)
}
