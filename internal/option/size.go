package option

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

var units = map[string]int64{
	"": 1, "b": 1,
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}

// parseSize reads a whole number of bytes, with or without a unit.
func parseSize(given string) (int64, error) {
	end := strings.IndexFunc(given, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(given)
	}
	n, err := strconv.ParseInt(given[:end], 10, 64)
	if err != nil {
		return 0, err
	}
	unit, ok := units[strings.ToLower(strings.TrimSpace(given[end:]))]
	switch {
	case !ok:
		return 0, errors.New("unknown unit")
	case n > math.MaxInt64/unit:
		return 0, errors.New("too large")
	}
	return n * unit, nil
}
