package option

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
)

// Complete fills the defaults into the zero fields of v, a pointer to a struct,
// and checks the others. prefix stands before a field's name in the errors, which
// read
//
//	ndjson: Options.MaxFileBytes is -3; it must be 1 or more, 0 for the default (128MiB), or -1 for no limit
func Complete(prefix string, v any) error {
	var errs []error
	for _, o := range Of(v) {
		if err := o.complete(o.field(v)); err != nil {
			errs = append(errs, fmt.Errorf("%s%s %w", prefix, o.Field, err))
		}
	}
	return errors.Join(errs...)
}

func (o *Option) complete(field reflect.Value) error {
	if field.IsZero() {
		if o.Default == "" {
			return nil
		}
		return o.put(field, []string{o.Default})
	}
	switch o.kind {
	case text:
		return o.checkText(field.String())
	case list:
		return o.checkList(field)
	case number, size, duration:
		n := field.Int()
		if n == -1 && o.Off != "" || n != 0 && o.inRange(n) {
			return nil
		}
		return fmt.Errorf("is %v; it must be %s", field.Interface(), o.valueWanted())
	}
	return nil
}

func (o *Option) checkList(field reflect.Value) error {
	if field.Len() == 0 {
		return nil // as nil
	}
	return o.putList(reflect.New(o.typ).Elem(), field.Convert(reflect.TypeFor[[]string]()).Interface().([]string))
}

// valueWanted says what a number in Go must be.
func (o *Option) valueWanted() string {
	wanted := cmp.Or(o.rangeWanted(), "positive")
	if o.Default != "" {
		wanted += fmt.Sprintf(", 0 for the default (%s)", o.Default)
	}
	if o.Off != "" {
		wanted += ", or -1 for " + o.Off
	}
	return wanted
}
