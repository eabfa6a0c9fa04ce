package extjson

import (
	"strconv"
	"time"
)

// lastDate is the last millisecond of the year 9999. Relaxed Extended JSON
// writes the dates from 1970 to there as text, all others as numbers.
const lastDate = 253402300799999

func (m Mode) appendDate(dst []byte, ms int64) []byte {
	switch {
	case m == Simplified:
		dst = appendSeconds(append(dst, '"'), ms)
		milli := int((ms%1000 + 1000) % 1000)
		return append(dst, '.', byte('0'+milli/100), byte('0'+milli/10%10), byte('0'+milli%10), 'Z', '"')
	case m == Canonical, ms < 0, ms > lastDate:
		dst = strconv.AppendInt(append(dst, `{"$date":{"$numberLong":"`...), ms, 10)
		return append(dst, `"}}`...)
	}
	dst = appendSeconds(append(dst, `{"$date":"`...), ms)
	return append(appendFraction(dst, int(ms%1000)), `Z"}`...)
}

// appendSeconds appends ms in the layout "2006-01-02T15:04:05". Every event has
// a wall time, and time.AppendFormat takes four times as long.
func appendSeconds(dst []byte, ms int64) []byte {
	t := time.UnixMilli(ms).UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	dst = append(appendYear(dst, year), '-')
	dst = append(appendDigits(dst, int(month)), '-')
	dst = append(appendDigits(dst, day), 'T')
	dst = append(appendDigits(dst, hour), ':')
	dst = append(appendDigits(dst, minute), ':')
	return appendDigits(dst, second)
}

// appendYear appends four digits, or a sign and at least six.
func appendYear(dst []byte, year int) []byte {
	if 0 <= year && year <= 9999 {
		return appendDigits(appendDigits(dst, year/100), year%100)
	}
	sign := byte('+')
	if year < 0 {
		sign, year = '-', -year
	}
	dst = append(dst, sign)
	for width := 100_000; width > max(year, 9); width /= 10 {
		dst = append(dst, '0')
	}
	return strconv.AppendInt(dst, int64(year), 10)
}

// appendFraction appends milliseconds in the layout ".999".
func appendFraction(dst []byte, milli int) []byte {
	if milli == 0 {
		return dst
	}
	dst = append(dst, '.', byte('0'+milli/100), byte('0'+milli/10%10), byte('0'+milli%10))
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

// appendDigits appends two digits.
func appendDigits(dst []byte, v int) []byte {
	return append(dst, byte('0'+v/10), byte('0'+v%10))
}
