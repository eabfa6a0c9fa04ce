package option

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
)

// FromQuery sets options of v from the parameters of a URL. A list takes its
// parameter several times, or with commas. Unknown names and options for one
// start are refused. The error has all mistakes; after one v is as it was.
func FromQuery(v any, q url.Values) error {
	target := reflect.ValueOf(v).Elem()
	changed := reflect.New(target.Type())
	changed.Elem().Set(target)
	var mistakes []string
	for _, name := range slices.Sorted(maps.Keys(q)) {
		if err := setParameter(changed.Interface(), name, q[name]); err != nil {
			mistakes = append(mistakes, err.Error())
		}
	}
	if mistakes != nil {
		return errors.New(strings.Join(mistakes, "; "))
	}
	target.Set(changed.Elem())
	return nil
}

// TakeFromQuery is FromQuery for the parameters that are options of v, which it removes
// from q: what is left is somebody else's.
func TakeFromQuery(v any, q url.Values) error {
	own := url.Values{}
	for name, texts := range q {
		if _, ours := Find(v, name); ours {
			own[name] = texts
			delete(q, name)
		}
	}
	return FromQuery(v, own)
}

// TakeFromRawQuery is TakeFromQuery for a query that is not decoded. It returns the other
// parameters as they are, in their order.
func TakeFromRawQuery(v any, query string) (rest string, err error) {
	own := url.Values{}
	var others []string
	for _, one := range strings.Split(query, "&") {
		name, value, _ := strings.Cut(one, "=")
		if _, ours := Find(v, name); !ours {
			others = append(others, one)
			continue
		}
		value, err := url.QueryUnescape(value)
		if err != nil {
			return "", errors.New("a parameter has a % that begins no escape; write it as %25")
		}
		own.Add(name, value)
	}
	return strings.Join(others, "&"), FromQuery(v, own)
}

func setParameter(v any, name string, texts []string) error {
	o, ok := Find(v, name)
	switch {
	case !ok || o.Once:
		return fmt.Errorf("the URL has the unknown parameter %q; %s", clipped(name), known(v))
	case o.List:
		texts = SplitList(strings.Join(texts, ","))
	case len(texts) != 1:
		return fmt.Errorf("the URL has the parameter %s %d times; it takes one value", name, len(texts))
	}
	if err := o.Set(v, texts); err != nil {
		return fmt.Errorf("the URL's parameter %w", err)
	}
	return nil
}

// SplitList returns the items of a list that is written with commas.
func SplitList(given string) []string {
	items := strings.Split(given, ",")
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	return items
}

// known lists the parameters that a URL may have.
func known(v any) string {
	var names []string
	for _, o := range Of(v) {
		if !o.Once {
			names = append(names, o.Name)
		}
	}
	if len(names) == 0 {
		return "it takes none"
	}
	slices.Sort(names)
	return "there are " + strings.Join(names, ", ")
}

func clipped(name string) string {
	if len(name) > 60 {
		return strings.ToValidUTF8(name[:60], "") + "…"
	}
	return name
}
