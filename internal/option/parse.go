package option

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// An Error is a value that an option refuses. It reads
//
//	max-file-bytes is "4 megs"; it must be a size such as 4MiB, or off (no limit)
//
// so that a caller can put before it where the value is written.
type Error struct {
	Name    string // the option's
	Problem string // "is …; it must be …"
}

func (e *Error) Error() string { return e.Name + " " + e.Problem }

// Set parses texts into the option's field of v, a pointer to a struct. An
// option that is no list takes one text. The error is an [*Error].
func (o Option) Set(v any, texts []string) error {
	field := reflect.New(o.typ).Elem()
	for _, t := range texts {
		if err := o.legible(t); err != nil {
			return &Error{Name: o.Name, Problem: err.Error()}
		}
	}
	if err := o.put(field, texts); err != nil {
		return &Error{Name: o.Name, Problem: err.Error()}
	}
	o.field(v).Set(field)
	return nil
}

// SetAs is Set for a value that no message may show, such as that of an
// environment variable: they show the text instead.
func (o Option) SetAs(v any, texts []string, instead string) error {
	o.instead = instead
	return o.Set(v, texts)
}

// Text returns the value of the option's field of v as Set takes it, and nil for
// the zero value.
func (o Option) Text(v any) []string {
	field := o.field(v)
	if field.IsZero() {
		return nil
	}
	switch o.kind {
	case list:
		return slices.Clone(field.Convert(reflect.TypeFor[[]string]()).Interface().([]string))
	case number, size, duration:
		if field.Int() == -1 && o.Off != "" {
			return []string{"off"}
		}
	case custom:
		if m, ok := field.Interface().(encoding.TextMarshaler); ok {
			if b, err := m.MarshalText(); err == nil {
				return []string{string(b)}
			}
		}
	}
	return []string{fmt.Sprint(field.Interface())}
}

func (o Option) field(v any) reflect.Value { return reflect.ValueOf(v).Elem().Field(o.index) }

// put parses texts into a field. Its error continues after the option's name.
func (o *Option) put(field reflect.Value, texts []string) error {
	if o.kind == list {
		return o.putList(field, texts)
	}
	if len(texts) != 1 {
		return fmt.Errorf("has %d values; it takes one", len(texts))
	}
	given := texts[0]
	switch o.kind {
	case text:
		if err := o.checkText(given); err != nil {
			return err
		}
		if o.Path {
			path, err := Path(given)
			if err != nil {
				return fmt.Errorf("is %s, which %w", o.shown(given), err)
			}
			given = path
		}
		field.SetString(given)
	case boolean:
		is, ok := truth[strings.ToLower(given)]
		if !ok {
			return o.refuse(given)
		}
		field.SetBool(is)
	case custom:
		if given == "" {
			return o.refuseEmpty()
		}
		if err := field.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(given)); err != nil {
			return o.refuseCustom(given, err)
		}
	default:
		n, err := o.number(given)
		if err != nil {
			return err
		}
		field.SetInt(n)
	}
	return nil
}

// truth has the words for true and false that YAML, shells and Go know.
var truth = map[string]bool{
	"true": true, "yes": true, "on": true, "y": true, "t": true, "1": true,
	"false": false, "no": false, "off": false, "n": false, "f": false, "0": false,
}

func (o *Option) putList(field reflect.Value, texts []string) error {
	if len(texts) == 0 {
		return errors.New("is an empty list; leave it out for the default")
	}
	for i, t := range texts {
		if err := o.checkText(t); err != nil {
			return err
		}
		if slices.Contains(texts[:i], t) {
			return errors.New("has an item twice: " + o.shown(t))
		}
	}
	field.Set(reflect.ValueOf(slices.Clone(texts)).Convert(field.Type()))
	return nil
}

func (o *Option) checkText(given string) error {
	switch {
	case given == "" && o.kind == list:
		return errors.New(`has an empty item, ""`)
	case given == "":
		return o.refuseEmpty()
	case !utf8.ValidString(given) || strings.ContainsRune(given, 0):
		return errors.New("is not valid text: UTF-8 without zero bytes")
	case o.OneOf != nil && !slices.Contains(o.OneOf, given), o.pattern != nil && !o.pattern.MatchString(given):
		return o.refuse(given)
	}
	return nil
}

// number parses a number and checks its range. It returns -1 for off.
func (o *Option) number(given string) (int64, error) {
	if o.Off != "" && (strings.EqualFold(given, "off") || given == "-1") {
		return -1, nil
	}
	n, err := o.parseNumber(given)
	switch {
	case err != nil:
		return 0, o.refuse(given)
	case n == 0 && o.Off != "":
		return 0, fmt.Errorf(`is %q; write off (%s), or leave it out for the default%s`, given, o.Off, parenthesized(o.Default))
	case n == 0: // the default, as in Go
		return 0, nil
	case !o.inRange(n) || o.typ.Bits() == 32 && n > math.MaxInt32:
		return 0, o.refuse(given)
	}
	return n, nil
}

func (o *Option) inRange(n int64) bool { return n >= o.min && (!o.hasMax || n <= o.max) }

func (o *Option) parseNumber(given string) (int64, error) {
	switch o.kind {
	case duration:
		d, err := time.ParseDuration(given)
		return int64(d), err
	case size:
		return parseSize(given)
	}
	return strconv.ParseInt(given, 10, 64)
}

func (o *Option) refuseEmpty() error {
	if o.Require != "" {
		return errors.New("is empty; it is " + o.Require)
	}
	return errors.New("is empty; leave it out for the default")
}

func (o *Option) refuse(given string) error {
	return fmt.Errorf("is %s; it must be %s", o.shown(given), o.textWanted())
}

func (o *Option) refuseCustom(given string, err error) error {
	if o.want == "" && !o.Secret {
		return fmt.Errorf("is %s: %w", o.shown(given), err)
	}
	return o.refuse(given)
}

// shown is what a message shows of a value.
func (o *Option) shown(given string) string {
	given = cmp.Or(o.instead, given)
	switch {
	case o.Secret:
		return "not valid"
	case o.url, strings.Contains(given, "://"): // a URL may stand where it doesn't belong
		given = RedactURL(given)
	}
	return strconv.Quote(clipped(given))
}

// textWanted says what a text must be.
func (o *Option) textWanted() string {
	if o.want != "" {
		return o.want
	}
	wanted := ""
	switch o.kind {
	case boolean:
		return "true or false"
	case number:
		wanted = "a whole number"
	case size:
		wanted = "a size such as 512KiB or 4MiB"
	case duration:
		wanted = "a duration such as 500ms, 30s or 1h30m"
	default:
		return alternatives(o.OneOf)
	}
	if r := o.rangeWanted(); r != "" {
		wanted += ", " + r
	}
	if o.Off != "" {
		wanted += ", or off" + parenthesized(o.Off)
	}
	return wanted
}

// rangeWanted is the range in words, "" for a duration of any length.
func (o *Option) rangeWanted() string {
	least := o.min
	if o.Default != "" || o.Off != "" { // 0 has a meaning of its own
		least = max(least, 1)
	}
	short := o.kind == duration && least <= 1
	switch {
	case o.hasMax && short:
		return "at most " + o.format(o.max)
	case o.hasMax:
		return fmt.Sprintf("from %s to %s", o.format(least), o.format(o.max))
	case short:
		return ""
	}
	return o.format(least) + " or more"
}

// wholeUnits takes what is zero off the end of a duration: 10m0s.
var wholeUnits = strings.NewReplacer("h0m0s", "h", "m0s", "m")

func (o *Option) format(n int64) string {
	if o.kind == duration {
		return wholeUnits.Replace(time.Duration(n).String())
	}
	return strconv.FormatInt(n, 10)
}

func parenthesized(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

func alternatives(all []string) string {
	if len(all) < 2 {
		return strings.Join(all, "")
	}
	last := len(all) - 1
	return strings.Join(all[:last], ", ") + " or " + all[last]
}
