package extjson

import "fmt"

// A Mode is a form of JSON. The zero value is Relaxed.
type Mode uint8

const (
	// Relaxed is relaxed Extended JSON v2: numbers are JSON numbers, and dates of
	// the years 1970 to 9999 are readable.
	Relaxed Mode = iota
	// Canonical is canonical Extended JSON v2: the type of every value is kept,
	// {"$numberInt":"5"}.
	Canonical
	// Simplified is plain JSON; see the package documentation.
	Simplified
)

var modeNames = [...]string{Relaxed: "relaxed", Canonical: "canonical", Simplified: "simplified"}

// String returns "relaxed", "canonical" or "simplified".
func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return fmt.Sprintf("Mode(%d)", uint8(m))
}

// MarshalText returns the name of m.
func (m Mode) MarshalText() ([]byte, error) {
	if int(m) >= len(modeNames) {
		return nil, fmt.Errorf("extjson: %v is not a mode", m)
	}
	return []byte(modeNames[m]), nil
}

// UnmarshalText sets m to the mode named text.
func (m *Mode) UnmarshalText(text []byte) error {
	for i, name := range modeNames {
		if string(text) == name {
			*m = Mode(i)
			return nil
		}
	}
	return fmt.Errorf("extjson: %q is not a mode; use relaxed, canonical or simplified", text)
}
