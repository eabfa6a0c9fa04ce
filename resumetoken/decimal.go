package resumetoken

import (
	"math"
	"math/big"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A decimal number is encoded as the double just below it, followed by the rest
// in units of its 34th digit. Its exponent (1.0 and 1.00 sort as equal) is in
// the type bits, which hold its last six bits: a number of 34 digits can be
// written with at most 34 exponents.

const (
	maxDigits         = 34
	exponentBias      = 6176
	maxBiasedExponent = 12287
	exponentBits      = 6
	maxExactWhole     = 1 << 53 // a double represents every whole number up to it
)

var ten = big.NewInt(10)

func pow10(n int) *big.Int { return new(big.Int).Exp(ten, big.NewInt(int64(n)), nil) }

func digits(coef *big.Int) int { return len(coef.Append(nil, 10)) }

// decimal returns n as the decimal number that it was; false if it was not one.
func (n number) decimal(bits *typeBits) (bson.Decimal128, bool) {
	const infinity, nan = 0x1E << 58, 0x1F << 58
	var sign uint64
	if n.negative {
		sign = 1 << 63
	}
	switch n.form {
	case formInf:
		return bson.NewDecimal128(sign|infinity, 0), true
	case formNaN:
		return bson.NewDecimal128(nan, 0), true
	}
	coef, exp, ok := n.exact()
	if !ok || coef.Sign() == 0 {
		return bson.Decimal128{}, false
	}
	if coef, exp, ok = atStoredExponent(coef, exp, bits); !ok {
		return bson.Decimal128{}, false
	}
	hi := new(big.Int).Rsh(coef, 64).Uint64()
	lo := new(big.Int).And(coef, new(big.Int).SetUint64(math.MaxUint64)).Uint64()
	return bson.NewDecimal128(sign|uint64(exp+exponentBias)<<49|hi, lo), true
}

// exact returns the magnitude of n: coef times 10^exp.
func (n number) exact() (coef *big.Int, exp int, ok bool) {
	switch {
	case n.form == formDecimal:
		return unpackDecimal(n.hi, n.lo)
	case n.form == formWhole:
		return new(big.Int).SetUint64(n.whole), 0, true
	case n.mark == markEqual:
		coef, exp = decimalOf(n.magnitude(), maxDigits, true)
		return coef, exp, true
	case n.mark == markRounded:
		coef, exp = decimalOf(n.magnitude(), 15, true)
		return coef, exp, true
	}
	coef, exp = n.base()
	coef, exp = toMaxDigits(coef, exp)
	return coef.Add(coef, new(big.Int).SetUint64(n.more)), exp, true
}

// base returns what a continuation is added to. Where the double would be
// subnormal the server rounds down in between, otherwise up.
func (n number) base() (coef *big.Int, exp int) {
	const minNormal = 0x1p-1022
	switch {
	case n.whole > maxExactWhole:
		return new(big.Int).SetUint64(n.whole), 0
	case n.scaled && n.double < math.Ldexp(minNormal, 256):
		coef, exp = decimalOf(n.double, maxDigits, false)
		scale, scaleExp := decimalOf(0x1p-256, maxDigits, false)
		return truncate(coef.Mul(coef, scale), exp+scaleExp, maxDigits, false)
	}
	return decimalOf(n.magnitude(), maxDigits, true)
}

// decimalOf returns x > 0 with the given number of digits, rounded up or down.
func decimalOf(x float64, n int, up bool) (coef *big.Int, exp int) {
	frac, e := math.Frexp(x)
	coef = new(big.Int).SetUint64(uint64(math.Ldexp(frac, 53)))
	e -= 53
	if e >= 0 {
		return truncate(coef.Lsh(coef, uint(e)), 0, n, up)
	}
	// m / 2^k is m * 5^k / 10^k.
	five := new(big.Int).Exp(big.NewInt(5), big.NewInt(int64(-e)), nil)
	return truncate(coef.Mul(coef, five), e, n, up)
}

// truncate cuts a number to n digits.
func truncate(coef *big.Int, exp, n int, up bool) (*big.Int, int) {
	drop := digits(coef) - n
	if drop <= 0 {
		return coef, exp
	}
	rest := new(big.Int)
	coef.QuoRem(coef, pow10(drop), rest)
	if up && rest.Sign() != 0 {
		coef.Add(coef, big.NewInt(1))
	}
	return coef, exp + drop
}

// toMaxDigits writes a number with all 34 digits.
func toMaxDigits(coef *big.Int, exp int) (*big.Int, int) {
	coef, exp = reduce(coef, exp)
	n := maxDigits - digits(coef)
	return coef.Mul(coef, pow10(max(n, 0))), exp - max(n, 0)
}

// reduce removes trailing zeros.
func reduce(coef *big.Int, exp int) (*big.Int, int) {
	for coef.Sign() != 0 {
		q, rest := new(big.Int).QuoRem(coef, ten, new(big.Int))
		if rest.Sign() != 0 {
			break
		}
		coef, exp = q, exp+1
	}
	return coef, exp
}

// atStoredExponent writes a number with its original exponent. Without type
// bits that is the usual one: 0 for a whole number, else the largest.
func atStoredExponent(coef *big.Int, exp int, bits *typeBits) (*big.Int, int, bool) {
	coef, exp = reduce(coef, exp)
	spare := maxDigits - digits(coef)
	if spare < 0 {
		return nil, 0, false
	}
	down := max(exp, 0)
	if bits.absent {
		if down > spare {
			down = 0
		}
	} else {
		stored := int(bits.read(exponentBits))
		down = (exp + exponentBias - stored) & (1<<exponentBits - 1)
	}
	exp -= down
	if down > spare || exp < -exponentBias || exp > maxBiasedExponent-exponentBias {
		return nil, 0, false
	}
	return coef.Mul(coef, pow10(down)), exp, true
}

// unpackDecimal reads the bits of a finite decimal.
func unpackDecimal(hi, lo uint64) (coef *big.Int, exp int, ok bool) {
	if hi>>61&3 == 3 { // no coefficient of 34 digits needs this form
		return nil, 0, false
	}
	coef = new(big.Int).SetUint64(hi & (1<<49 - 1))
	coef.Lsh(coef, 64).Or(coef, new(big.Int).SetUint64(lo))
	return coef, int(hi>>49&0x3FFF) - exponentBias, true
}
