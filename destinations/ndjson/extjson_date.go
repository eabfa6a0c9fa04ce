package ndjson

import (
	"strconv"
	"time"
)

// lastDate is the last millisecond of the year 9999. Relaxed Extended JSON
// writes the dates from 1970 to there as text, all others as numbers.
const lastDate = 253402300799999

func (f format) appendDate(dst []byte, ms int64) []byte {
	if f.canonical || ms < 0 || ms > lastDate {
		dst = strconv.AppendInt(append(dst, `{"$date":{"$numberLong":"`...), ms, 10)
		return append(dst, `"}}`...)
	}
	return append(appendTime(append(dst, `{"$date":"`...), ms), `"}`...)
}

// appendTime appends ms in the layout "2006-01-02T15:04:05.999Z". Every event
// has a wall time, and time.AppendFormat takes four times as long.
func appendTime(dst []byte, ms int64) []byte {
	t := time.UnixMilli(ms).UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	dst = appendDigits(dst, year/100, '-')[:len(dst)+2]
	dst = appendDigits(dst, year%100, '-')
	dst = appendDigits(dst, int(month), '-')
	dst = appendDigits(dst, day, 'T')
	dst = appendDigits(dst, hour, ':')
	dst = appendDigits(dst, minute, ':')
	dst = appendDigits(dst, second, '.')
	milli := int(ms % 1000)
	if milli == 0 {
		return append(dst[:len(dst)-1], 'Z')
	}
	dst = append(dst, byte('0'+milli/100), byte('0'+milli/10%10), byte('0'+milli%10))
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return append(dst, 'Z')
}

// appendDigits appends two digits and what separates them from the next.
func appendDigits(dst []byte, v int, sep byte) []byte {
	return append(dst, byte('0'+v/10), byte('0'+v%10), sep)
}
