package resumetoken

import (
	"encoding/binary"
	"math"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A form is the encoding of a number in a key.
type form int

const (
	formWhole  form = iota // whole, less than 2^63
	formBinary             // a double, to which a decimal may have added more
	formInf
	formNaN
	formDecimal // the bits of a decimal
)

// A marker says what a decimal number adds to the double in the key.
type marker uint

const (
	markEqual   marker = 0 // nothing
	markBelow   marker = 1 // a continuation; below the double rounded to 15 digits
	markRounded marker = 2 // it is the double rounded up to 15 digits
	markAbove   marker = 3 // a continuation; above it
)

func (m marker) continued() bool { return m&1 == 1 }

// A number is a number as encoded in the key, whatever its type.
type number struct {
	form     form
	negative bool
	whole    uint64
	double   float64 // the magnitude
	scaled   bool    // double is 2^256 times too large, so as not to be subnormal
	mark     marker
	more     uint64 // the continuation
	hi, lo   uint64 // formDecimal
}

// number appends the number whose first byte is ctype.
func (r *keyReader) number(dst []byte, ctype byte) (bson.Type, []byte) {
	if ctype == ksZero {
		return r.zero(dst)
	}
	want := r.bits.number()
	n := r.readNumber(ctype)
	switch {
	case r.err != nil:
		return bson.TypeNull, dst
	case want == bitsUnknown:
		want = n.natural()
	}
	switch {
	case want == bitsInt && n.isLong() && n.long() == int64(int32(n.long())):
		return bson.TypeInt32, binary.LittleEndian.AppendUint32(dst, uint32(n.long()))
	case want == bitsLong && n.isLong():
		return bson.TypeInt64, binary.LittleEndian.AppendUint64(dst, uint64(n.long()))
	case want == bitsDouble && n.isDouble():
		return bson.TypeDouble, binary.LittleEndian.AppendUint64(dst, math.Float64bits(n.float()))
	case want == bitsDecimal:
		if d, ok := n.decimal(&r.bits); ok {
			return bson.TypeDecimal128, appendDecimal(dst, d)
		}
	}
	r.fail("it has a number that is not of the type that its _typeBits say")
	return bson.TypeNull, dst
}

// zero appends a zero. Besides those of the four types there are a negative
// double and 24,576 decimal zeros, of every exponent and both signs.
func (r *keyReader) zero(dst []byte) (bson.Type, []byte) {
	switch kind := r.bits.read(2); kind {
	case bitsInt:
		return bson.TypeInt32, append(dst, 0, 0, 0, 0)
	case bitsLong:
		return bson.TypeInt64, binary.LittleEndian.AppendUint64(dst, 0)
	case bitsDouble:
		return bson.TypeDouble, binary.LittleEndian.AppendUint64(dst, 0)
	}
	const negativeDouble, unused, firstDecimal = 0, 1, 2
	kind := r.bits.read(3)
	switch kind {
	case negativeDouble:
		return bson.TypeDouble, binary.LittleEndian.AppendUint64(dst, 1<<63)
	case unused:
		r.fail("it has a number that is not of the type that its _typeBits say")
		return bson.TypeNull, dst
	}
	exponent := uint64(kind-firstDecimal)<<12 | uint64(r.bits.read(12))
	var sign uint64
	if exponent > maxBiasedExponent {
		exponent -= maxBiasedExponent + 1
		sign = 1 << 63
	}
	return bson.TypeDecimal128, appendDecimal(dst, bson.NewDecimal128(sign|exponent<<49, 0))
}

func appendDecimal(dst []byte, d bson.Decimal128) []byte {
	hi, lo := d.GetBytes()
	dst = binary.LittleEndian.AppendUint64(dst, lo)
	return binary.LittleEndian.AppendUint64(dst, hi)
}

func (r *keyReader) readNumber(ctype byte) (n number) {
	var mask byte
	if n.negative = ctype < ksZero && ctype != ksNaN; n.negative {
		mask = 0xFF
	}
	switch ctype {
	case ksNaN:
		n.form = formNaN
	case ksNegativeLarge, ksPositiveLarge:
		r.readLarge(&n, mask)
	case ksNegativeSmall, ksPositiveSmall:
		r.readSmall(&n, mask)
	default:
		size := int(ctype) - ksPositive1 + 1
		if n.negative {
			size = ksNegative1 - int(ctype) + 1
		}
		r.readMiddle(&n, size, mask)
	}
	if n.mark.continued() {
		n.more = r.uint64(mask)
	}
	return n
}

// readMiddle reads a magnitude from 1 to 2^63: size bytes hold the whole part,
// doubled, and one bit that says whether a fraction follows, in the bytes up to
// the eighth.
func (r *keyReader) readMiddle(n *number, size int, mask byte) {
	u := r.uint(size, 0, mask)
	n.whole = u >> 1
	if u&1 == 0 {
		return
	}
	n.form = formBinary
	rest := 8 - size
	u = r.uint(rest, n.whole, mask)
	n.double = math.Ldexp(float64(u&^3), -8*rest)
	n.mark = marker(u & 3)
	if rest == 0 {
		// There was no room for the marker. A double of this size is whole.
		n.mark = markAbove
	}
}

// readSmall reads a magnitude below 1.
func (r *keyReader) readSmall(n *number, mask byte) {
	u := r.uint64(mask)
	switch u >> 62 {
	case 3: // 2^-255 or more
		n.form, n.double, n.mark = formBinary, math.Float64frombits(u>>2), marker(u&3)
	case 0: // below every double
		n.form, n.hi, n.lo = formDecimal, u, r.uint64(mask)
	default:
		n.form, n.double, n.scaled = formBinary, math.Float64frombits((u-1<<62)>>1), true
		if u&1 == 1 {
			n.mark = markAbove
		}
	}
}

// readLarge reads a magnitude of 2^63 or more.
func (r *keyReader) readLarge(n *number, mask byte) {
	u := r.uint64(mask)
	switch {
	case u == math.MaxUint64:
		n.form = formInf
	case u>>63 == 1: // above every double
		n.form, n.hi, n.lo = formDecimal, u&^(1<<63), r.uint64(mask)
	default:
		n.form, n.double = formBinary, math.Float64frombits(u>>1|1<<62)
		if u&1 == 1 {
			n.mark = markAbove
		}
		if math.IsInf(n.double, 0) || math.IsNaN(n.double) {
			r.fail("it has a number that does not exist")
		}
	}
}

// natural returns the most likely type of a number, so that a token whose
// _typeBits were lost can still be read.
func (n number) natural() uint {
	switch {
	case n.form == formWhole && n.long() == int64(int32(n.long())):
		return bitsInt
	case n.form == formWhole:
		return bitsLong
	case n.isDouble():
		return bitsDouble
	}
	return bitsDecimal
}

// isLong reports whether n is a 64-bit integer. The least one is encoded like a
// double, because its magnitude needs 64 bits.
func (n number) isLong() bool {
	return n.form == formWhole || n.form == formBinary && n.negative && !n.scaled &&
		n.double == 1<<63 && n.mark == markEqual
}

func (n number) long() int64 {
	switch {
	case n.form == formBinary:
		return math.MinInt64
	case n.negative:
		return -int64(n.whole)
	}
	return int64(n.whole)
}

func (n number) isDouble() bool { return n.form != formDecimal && n.mark == markEqual }

func (n number) float() (x float64) {
	switch n.form {
	case formWhole:
		x = float64(n.whole)
	case formBinary:
		x = n.magnitude()
	case formInf:
		x = math.Inf(1)
	case formNaN:
		return math.NaN()
	}
	if n.negative {
		return -x
	}
	return x
}

// magnitude returns the double at its true scale.
func (n number) magnitude() float64 {
	if n.scaled {
		return math.Ldexp(n.double, -256)
	}
	return n.double
}
