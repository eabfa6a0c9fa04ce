package resumetoken

import (
	"math"
	"math/big"
	"math/bits"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// number writes a number of any type. Its first byte holds its magnitude's
// size; its type is only in the type bits.
func (w *keyWriter) number(v bson.RawValue) {
	switch v.Type {
	case bson.TypeInt32:
		w.int32(v.Int32())
	case bson.TypeInt64:
		w.bits.write(bitsLong, 2)
		w.whole(v.Int64())
	case bson.TypeDouble:
		x := v.Double()
		if x == 0 && math.Signbit(x) {
			w.bits.write(bitsDecimal, 2)
			w.bits.write(0, 3) // the first of the special zeros
		} else {
			w.bits.write(bitsDouble, 2)
		}
		w.double(x, markEqual)
	default:
		w.bits.write(bitsDecimal, 2)
		w.decimal(v.Decimal128())
	}
}

func (w *keyWriter) whole(i int64) {
	switch {
	case i == 0:
		w.byte(ksZero)
	case i == math.MinInt64:
		w.double(math.MinInt64, markEqual)
	case i < 0:
		w.wholePart(uint64(-i)<<1, true)
	default:
		w.wholePart(uint64(i)<<1, false)
	}
}

// wholePart writes a magnitude from 1 to 2^63, shifted by the bit that says
// whether a fraction follows, and returns the number of bytes written.
func (w *keyWriter) wholePart(shifted uint64, negative bool) int {
	size := (bits.Len64(shifted) + 7) / 8
	if negative {
		w.byte(ksNegative1 - byte(size-1))
	} else {
		w.byte(ksPositive1 + byte(size-1))
	}
	w.uint(size, shifted, maskOf(negative))
	return size
}

func maskOf(negative bool) byte {
	if negative {
		return 0xFF
	}
	return 0
}

// double writes a double, and what a decimal number adds to it.
func (w *keyWriter) double(x float64, mark marker) {
	negative := x < 0
	magnitude, mask := math.Abs(x), maskOf(negative)
	switch {
	case math.IsNaN(x):
		w.byte(ksNaN)
	case x == 0:
		w.byte(ksZero)
	case magnitude < 1:
		w.small(magnitude, mark, negative)
	case magnitude < 1<<63:
		w.middle(magnitude, mark, negative)
	default:
		w.byte(sizeByte(ksPositiveLarge, ksNegativeLarge, negative))
		u := ^uint64(0)
		if !math.IsInf(x, 0) {
			u = math.Float64bits(magnitude)&^(1<<62)<<1 | uint64(mark&1)
		}
		w.uint64(u, mask)
	}
}

func sizeByte(positive, negative byte, isNegative bool) byte {
	if isNegative {
		return negative
	}
	return positive
}

func (w *keyWriter) middle(magnitude float64, mark marker, negative bool) {
	whole := uint64(magnitude)
	if float64(whole) == magnitude && mark == markEqual {
		w.wholePart(whole<<1, negative)
		return
	}
	rest := 8 - w.wholePart(whole<<1|1, negative)
	fraction := uint64(math.Ldexp(magnitude-float64(whole), 8*rest)) | uint64(mark)
	w.uint(rest, fraction, maskOf(negative))
}

// smallestMarked is the least magnitude with room for a marker.
const smallestMarked = 0x1p-255

func (w *keyWriter) small(magnitude float64, mark marker, negative bool) {
	w.byte(sizeByte(ksPositiveSmall, ksNegativeSmall, negative))
	if magnitude >= smallestMarked {
		w.uint64(math.Float64bits(magnitude)<<2|uint64(mark), maskOf(negative))
		return
	}
	w.scaled(math.Ldexp(magnitude, 256), mark, negative)
}

func (w *keyWriter) scaled(double float64, mark marker, negative bool) {
	w.uint64((math.Float64bits(double)<<1|uint64(mark&1))+1<<62, maskOf(negative))
}

// decimal writes a decimal number, whose first two type bits are written
// already.
func (w *keyWriter) decimal(d bson.Decimal128) {
	hi, lo := d.GetBytes()
	negative := hi>>63 == 1
	sign := 1.0
	if negative {
		sign = -1
	}
	switch {
	case d.IsNaN():
		w.double(math.NaN(), markEqual)
		return
	case d.IsInf() != 0:
		w.double(math.Inf(int(sign)), markEqual)
		return
	}
	hi &^= 1 << 63
	coef, exp, ok := unpackDecimal(hi, lo)
	if !ok || digits(coef) > maxDigits {
		// An invalid coefficient means zero.
		coef = new(big.Int)
		if !ok {
			exp = int(hi>>47&0x3FFF) - exponentBias
		}
	}
	if coef.Sign() == 0 {
		w.decimalZero(exp, negative)
		return
	}
	w.bits.write(uint(exp+exponentBias)&(1<<exponentBits-1), exponentBits)
	w.decimalMagnitude(coef, exp, sign)
}

func (w *keyWriter) decimalZero(exp int, negative bool) {
	const firstDecimal = 2
	kind := uint(exp + exponentBias)
	if negative {
		kind += maxBiasedExponent + 1
	}
	w.bits.write(firstDecimal+kind>>12, 3)
	w.bits.write(kind&(1<<12-1), 12)
	w.byte(ksZero)
}

// decimalMagnitude writes coef times 10^exp as the double below it and the
// rest. In each case number.exact restores it.
func (w *keyWriter) decimalMagnitude(coef *big.Int, exp int, sign float64) {
	negative := sign < 0
	below, exact := doubleBelow(coef, exp)
	switch {
	case exact:
		w.double(sign*below, markEqual)
	case below < 0x1p-1022:
		w.tiny(coef, exp, below, negative)
	case below == math.MaxFloat64:
		hi, lo := packNormal(coef, exp)
		w.byte(sizeByte(ksPositiveLarge, ksNegativeLarge, negative))
		w.uint64(hi|1<<63, maskOf(negative))
		w.uint64(lo, maskOf(negative))
	case below >= maxExactWhole && below < 1<<63:
		w.largeWhole(coef, exp, negative)
	default:
		w.withContinuation(coef, exp, sign*below)
	}
}

func (w *keyWriter) withContinuation(coef *big.Int, exp int, x float64) {
	magnitude := math.Abs(x)
	marked := magnitude >= smallestMarked && magnitude < 1<<63
	mark := markAbove
	if marked {
		rounded, roundedExp := decimalOf(magnitude, 15, true)
		switch cmpDecimal(coef, exp, rounded, roundedExp) {
		case 0:
			w.double(x, markRounded)
			return
		case -1:
			mark = markBelow
		}
	}
	w.double(x, mark)
	base, baseExp := decimalOf(magnitude, maxDigits, true)
	w.continuation(coef, exp, base, baseExp, x < 0)
}

// largeWhole writes a number whose whole part a double can't represent.
func (w *keyWriter) largeWhole(coef *big.Int, exp int, negative bool) {
	whole := toExponent(coef, exp, 0)
	u := whole.Uint64()
	if cmpDecimal(coef, exp, whole, 0) == 0 {
		w.wholePart(u<<1, negative)
		return
	}
	rest := 8 - w.wholePart(u<<1|1, negative)
	w.uint(rest, uint64(markAbove), maskOf(negative))
	w.continuation(coef, exp, whole, 0, negative)
}

// tiny writes numbers below the normal doubles, which lack the precision.
func (w *keyWriter) tiny(coef *big.Int, exp int, below float64, negative bool) {
	w.byte(sizeByte(ksPositiveSmall, ksNegativeSmall, negative))
	if below == 0 {
		hi, lo := packNormal(coef, exp)
		w.uint64(hi, maskOf(negative))
		w.uint64(lo, maskOf(negative))
		return
	}
	// Rounded up, as in the server's own tokens (one in testdata would be wrong
	// otherwise).
	scale, scaleExp := decimalOf(0x1p256, maxDigits, true)
	product, productExp := truncate(scale.Mul(scale, coef), exp+scaleExp, maxDigits, false)
	n := number{form: formBinary, scaled: true}
	n.double, _ = doubleBelow(product, productExp)
	w.scaled(n.double, markAbove, negative)
	base, baseExp := n.base()
	w.continuation(coef, exp, base, baseExp, negative)
}

// continuation writes what to add to base, in units of the last of its 34
// digits.
func (w *keyWriter) continuation(coef *big.Int, exp int, base *big.Int, baseExp int, negative bool) {
	base, baseExp = toMaxDigits(new(big.Int).Set(base), baseExp)
	more := toExponent(coef, exp, baseExp)
	w.uint64(more.Sub(more, base).Uint64(), maskOf(negative))
}

// toExponent returns coef times 10^exp in units of 10^want, rounded down.
func toExponent(coef *big.Int, exp, want int) *big.Int {
	if exp >= want {
		return new(big.Int).Mul(coef, pow10(exp-want))
	}
	return new(big.Int).Quo(coef, pow10(want-exp))
}

func cmpDecimal(a *big.Int, aExp int, b *big.Int, bExp int) int {
	least := min(aExp, bExp)
	return toExponent(a, aExp, least).Cmp(toExponent(b, bExp, least))
}

// doubleBelow returns the largest double that is not larger than coef times
// 10^exp, and whether the two are equal.
func doubleBelow(coef *big.Int, exp int) (x float64, exact bool) {
	if digits(coef)+exp > 310 {
		return math.MaxFloat64, false
	}
	if digits(coef)+exp < -330 {
		return 0, false
	}
	r := new(big.Rat).SetInt(coef)
	scale := new(big.Rat).SetInt(pow10(max(exp, -exp)))
	if exp >= 0 {
		r.Mul(r, scale)
	} else {
		r.Quo(r, scale)
	}
	x, exact = r.Float64()
	if math.IsInf(x, 0) {
		return math.MaxFloat64, false
	}
	if !exact && new(big.Rat).SetFloat64(x).Cmp(r) > 0 {
		x = math.Nextafter(x, 0)
	}
	return x, exact
}

// packNormal returns a decimal's bits, with as many digits as its exponent
// allows.
func packNormal(coef *big.Int, exp int) (hi, lo uint64) {
	down := min(maxDigits-digits(coef), exp+exponentBias)
	coef = new(big.Int).Mul(coef, pow10(down))
	hi = uint64(exp-down+exponentBias)<<49 | new(big.Int).Rsh(coef, 64).Uint64()
	return hi, new(big.Int).And(coef, new(big.Int).SetUint64(math.MaxUint64)).Uint64()
}
