package config

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func parseCount(text string) (int, error) {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("is not a whole number from 1 to %d", math.MaxInt32)
	}
	return int(n), nil
}

var units = []struct {
	name string
	size int64
}{
	// Longest first: "KiB" ends with "B".
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9},
	{"B", 1}, {"", 1},
}

// parseSize reads a number of bytes.
func parseSize(text string) (int64, error) {
	bad := errors.New("is not a size: write a whole number of bytes, or one with kB, MB, GB, KiB, MiB or GiB, as 4MiB")
	for _, u := range units {
		digits, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(digits, " "), 10, 64)
		switch {
		case err != nil || n < 0:
			return 0, bad
		case n > math.MaxInt32/u.size && n > (1<<40)/u.size:
			return 0, errors.New("is more than 1024GiB")
		}
		return n * u.size, nil
	}
	return 0, bad
}

func parseDuration(text string, zero bool) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, errors.New("is not a duration: write a number with its unit, as 500ms, 30s, 5m or 1h30m")
	case d < 0:
		return 0, errors.New("is a negative duration")
	case d == 0 && !zero:
		return 0, errors.New("is no time at all; leave it out for the default")
	}
	return d, nil
}

// parseStart reads what --start takes. The zero time is now.
func parseStart(text string) (bson.Timestamp, error) {
	if text == "now" {
		return bson.Timestamp{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		if sec := t.Unix(); sec > 0 && sec <= math.MaxUint32 {
			return bson.Timestamp{T: uint32(sec)}, nil
		}
		return bson.Timestamp{}, errors.New("is not a time that a MongoDB server can have")
	}
	if sec, inc, ok := strings.Cut(text, "."); ok {
		t, err1 := strconv.ParseUint(sec, 10, 32)
		i, err2 := strconv.ParseUint(inc, 10, 32)
		if err1 == nil && err2 == nil && t > 0 {
			return bson.Timestamp{T: uint32(t), I: uint32(i)}, nil
		}
	}
	return bson.Timestamp{}, errors.New("is not now, a time as 2026-11-23T00:46:00Z, or a cluster time (seconds.increment) as 1794000000.2")
}

// The limits of names are the server's:
// https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions
func checkDatabase(name string) error {
	switch {
	case strings.ContainsAny(name, "/\\. \"$\x00"):
		return errors.New(`is not the name of a database, which has none of / \ . " $ and no space`)
	case len(name) > 63:
		return errors.New("is not the name of a database, which has at most 63 bytes")
	}
	return nil
}

func checkCollection(name string) error {
	switch {
	case name == "":
		return errors.New("has an empty name of a collection; leave it out to read all collections")
	case strings.ContainsAny(name, "$\x00"):
		return errors.New("is not the name of a collection, which has no $")
	}
	return nil
}

func checkName(name string) error {
	if strings.Contains(name, "/") {
		return errors.New("has a slash, which separates the name from that of a stream")
	}
	if len(name) > 512 {
		return errors.New("is longer than 512 bytes")
	}
	return nil
}

func checkSource(text string) error {
	if strings.HasPrefix(text, "mongodb://") || strings.HasPrefix(text, "mongodb+srv://") {
		return nil // the rest is the driver's to judge
	}
	return errors.New("is not the URL of a MongoDB server: it must begin with mongodb:// or mongodb+srv://")
}

func checkStore(text string) error {
	switch scheme, _, _ := strings.Cut(text, "://"); scheme {
	case "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster", "redis+unix", "unix":
		return nil // the rest, of several hosts, is the store's to judge
	}
	u, err := ParseURL(text)
	if err != nil {
		return err
	}
	switch u.Scheme {
	case "memory", "redis", "rediss":
		return nil
	case "file":
		if u.Opaque == "" && u.Path == "" {
			return errors.New("names no folder: write file:PATH, as file:./state")
		}
		return nil
	}
	return errors.New("is not a store: it must be memory:, file:PATH, redis://…, redis+sentinel://…, redis+cluster://… (rediss for redis with TLS) or unix://…")
}

func checkDestination(text string) error {
	u, err := ParseURL(text)
	if err != nil {
		return err
	}
	if u.Scheme != "ndjson" {
		return errors.New("is not a destination: it must be ndjson:DIR, or ndjson:- for standard output")
	}
	if u.Opaque == "" && u.Path == "" {
		return errors.New("names no folder: write ndjson:DIR, as ndjson:./out, or ndjson:- for standard output")
	}
	return nil
}

// ParseURL is url.Parse with an error that doesn't quote the URL, which may hold
// a password.
func ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("is not a URL; if it has a password, its special characters must be written as %40 for @, %3A for :, %2F for / and so on")
	}
	return u, nil
}
