package option

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode"
)

// An Option is one declared option.
type Option struct {
	Name    string // in URLs, YAML and flags: max-file-bytes
	Field   string // in Go: MaxFileBytes
	Help    string
	Default string   // as text; "" if the zero value is the default
	Off     string   // what off means; "" if it can't be off
	OneOf   []string // the allowed texts; nil for any
	Arg     string   // the placeholder in help; "" for a switch
	Group   string   // the heading in help, that of the last field that has one
	Once    bool     // for one start: a flag, never in a file or URL
	Secret  bool     // no message shows the value
	Require string   // why there must be a value, and an example; "" if it may be missing
	List    bool     // it takes several texts
	Switch  bool     // it is true or false
	Path    bool     // it is a path of the file system

	index    int
	typ      reflect.Type
	kind     kind
	min, max int64 // of numbers
	hasMax   bool
	pattern  *regexp.Regexp
	want     string
	url      bool
	instead  string // what messages show instead of the value
}

type kind int

const (
	text kind = iota
	list
	boolean
	number
	size
	duration
	custom // an encoding.TextUnmarshaler
)

var (
	durationType    = reflect.TypeFor[time.Duration]()
	unmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
	cache           sync.Map // reflect.Type → []Option
)

// Of returns the declared options of v, a pointer to a struct, in the order of
// its fields.
func Of(v any) []Option {
	t := reflect.TypeOf(v).Elem()
	if known, ok := cache.Load(t); ok {
		return known.([]Option)
	}
	var found []Option
	group := ""
	for i := range t.NumField() {
		f := t.Field(i)
		if g, ok := f.Tag.Lookup("group"); ok {
			group = g
		}
		if _, ok := f.Tag.Lookup("help"); ok {
			found = append(found, declared(f, group))
		}
	}
	cache.Store(t, found)
	return found
}

// Find returns the option of that name.
func Find(v any, name string) (Option, bool) {
	for _, o := range Of(v) {
		if o.Name == name {
			return o, true
		}
	}
	return Option{}, false
}

// declared reads the tags of a field.
func declared(f reflect.StructField, group string) Option {
	tag := f.Tag
	o := Option{
		Name: tag.Get("name"), Field: f.Name, Help: tag.Get("help"), Default: tag.Get("default"), Off: tag.Get("off"),
		Arg: tag.Get("arg"), Group: group, Once: tag.Get("once") == "true", Secret: tag.Get("secret") == "true",
		Require: tag.Get("require"), index: f.Index[0], typ: f.Type, want: tag.Get("want"), url: tag.Get("kind") == "url", Path: tag.Get("kind") == "path",
	}
	if o.Name == "" {
		o.Name = kebab(f.Name)
	}
	o.kind = kindOf(f.Type, tag.Get("kind"))
	o.List, o.Switch = o.kind == list, o.kind == boolean
	if all := tag.Get("oneof"); all != "" {
		o.OneOf = strings.Split(all, "|")
	}
	if expr := tag.Get("pattern"); expr != "" {
		o.pattern = regexp.MustCompile(`(?s)\A(?:` + expr + `)\z`)
	}
	if o.Arg == "" {
		o.Arg = [...]string{text: "TEXT", list: "LIST", boolean: "", number: "N", size: "SIZE", duration: "DURATION", custom: "VALUE"}[o.kind]
	}
	o.declareRange(tag)
	o.mustHold(f)
	return o
}

func kindOf(t reflect.Type, name string) kind {
	switch {
	case reflect.PointerTo(t).Implements(unmarshalerType):
		return custom
	case t == durationType:
		return duration
	case t.Kind() == reflect.String:
		return text
	case t.Kind() == reflect.Bool:
		return boolean
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String:
		return list
	case (t.Kind() == reflect.Int || t.Kind() == reflect.Int64) && name == "size":
		return size
	case t.Kind() == reflect.Int || t.Kind() == reflect.Int64:
		return number
	}
	panic(fmt.Sprintf("option: a field of type %s can't be an option", t))
}

func (o *Option) declareRange(tag reflect.StructTag) {
	lowest, highest := tag.Get("min"), tag.Get("max")
	if !o.numeric() {
		if lowest+highest+o.Off != "" {
			panic("option: " + o.Field + " is no number, and has min, max or off")
		}
		return
	}
	bound := func(text string) int64 {
		n, err := o.parseNumber(text)
		if err != nil {
			panic(fmt.Sprintf("option: %s has the bound %q: %v", o.Field, text, err))
		}
		return n
	}
	if lowest != "" {
		o.min = bound(lowest)
	}
	if o.hasMax = highest != ""; o.hasMax {
		o.max = bound(highest)
	}
}

// mustHold panics if the declaration contradicts itself.
func (o *Option) mustHold(f reflect.StructField) {
	if !f.IsExported() {
		panic("option: the option " + o.Field + " is not exported")
	}
	if o.pattern != nil && o.want == "" {
		panic("option: " + o.Field + " has a pattern, and no want that says it in words")
	}
	if o.Default == "" {
		return
	}
	if o.kind == boolean || o.kind == list {
		panic("option: " + o.Field + " has a default, which its type can't have")
	}
	if err := o.put(reflect.New(f.Type).Elem(), []string{o.Default}); err != nil {
		panic(fmt.Sprintf("option: the default of %s: %v", o.Field, err))
	}
}

func (o *Option) numeric() bool { return o.kind == number || o.kind == size || o.kind == duration }

// kebab writes MaxFileBytes as max-file-bytes, and LeaseTTL as lease-ttl.
func kebab(name string) string {
	runes := []rune(name)
	var b strings.Builder
	for i, r := range runes {
		begins := i > 0 && unicode.IsUpper(r) &&
			(!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1]))
		if begins {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
