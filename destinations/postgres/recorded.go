package postgres

import (
	"fmt"
	"slices"
	"strings"
)

// What the catalog records of a checkpoint's tables has to fit what is there, and what the
// options say. All that doesn't is named at once, with one statement for it.

const (
	mostNamed      = 3  // claims that a message describes
	mostInOneQuery = 20 // that a statement lists
)

// checkHad refuses tables that are gone, and to leave tables behind because the options
// say others now.
func (s *session) checkHad(had, gone []claim) error {
	var changed []claim
	for _, c := range had {
		if s.isChanged(c) && !slices.Contains(gone, c) {
			changed = append(changed, c)
		}
	}
	var wrong []error
	if gone != nil {
		wrong = append(wrong, s.areGone(had, gone))
	}
	if changed != nil {
		wrong = append(wrong, s.areChanged(had, changed))
	}
	return refuseAll(wrong)
}

// isChanged reports whether the options say another table. A name in the catalog is
// escaped, and differs from the one that it was made of where that has a backslash, say:
// only others can be compared.
func (s *session) isChanged(c claim) bool {
	now := s.claimOf(c.ns)
	return now.ns == c.ns && (now.name != c.name || now.mode != c.mode)
}

// isGone is areGone for one table.
func (s *session) isGone(c claim) error { return s.areGone(nil, []claim{c}) }

// areGone refuses to make tables again that were there before: their rows would be
// missing.
func (s *session) areGone(had, gone []claim) error {
	facts := few(gone, func(c claim) string { return fmt.Sprintf("%s, the %s of %s", c.name, c.mode, c.ns) })
	if len(gone) == 1 {
		return refuse("%s, was there before and is gone; restore it, or start without its rows by executing %s; the next start then makes it, empty", facts, s.forget(had, gone...))
	}
	return refuse("%s were there before and are gone; restore them, or start without their rows by executing %s; the next start then makes them, empty", facts, s.forget(had, gone...))
}

func (s *session) areChanged(had, changed []claim) error {
	facts := few(changed, func(c claim) string {
		now := s.claimOf(c.ns)
		return fmt.Sprintf("%s is written to %s, a %s, and by the options it would be %s, a %s", c.ns, c.name, c.mode, now.name, now.mode)
	})
	return refuse("%s; change them back, or start without those rows by executing %s", facts, s.forget(had, changed...))
}

// few describes claims, the first ones and how many others there are.
func few(all []claim, describe func(claim) string) string {
	var texts []string
	for _, c := range all[:min(len(all), mostNamed)] {
		texts = append(texts, describe(c))
	}
	if more := len(all) - len(texts); more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(texts, "; ")
}

// forget is the statement that has tables belong to nobody; had are all those of the
// checkpoint.
func (s *session) forget(had []claim, which ...claim) string {
	return "DELETE FROM " + s.d.catalog + " WHERE " + s.rows(had, which)
}

// rows is the condition for rows of the catalog.
func (s *session) rows(had, which []claim) string {
	switch {
	case len(which) == 1:
		return fmt.Sprintf("schema_name = %s AND table_name = %s", literal(which[0].name.schema), literal(which[0].name.table))
	case len(which) == len(had):
		return "key = " + literal(escaped(s.key))
	}
	var names []string
	for _, c := range which[:min(len(which), mostInOneQuery)] {
		names = append(names, "("+literal(c.name.schema)+", "+literal(c.name.table)+")")
	}
	return "(schema_name, table_name) IN (" + strings.Join(names, ", ") + ")"
}
