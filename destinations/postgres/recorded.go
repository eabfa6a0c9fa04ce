package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// What the catalog records of a checkpoint's tables has to fit what is there, and what the
// options say. All that doesn't is named at once, with one statement for it.

const (
	mostNamed      = 3  // claims that a message describes
	mostInOneQuery = 20 // that a statement lists
)

// checkHad refuses tables that are gone, and to leave tables behind because the options
// say others now.
func (s *session) checkHad(ctx context.Context, tx pgx.Tx, had, gone []claim) error {
	var moved, reformed []claim
	for _, c := range had {
		now := s.claimOf(c.ns)
		switch {
		case now == c || now.ns != c.ns || slices.Contains(gone, c):
			// A name in the catalog is escaped, and differs from the one that it was made
			// of where that has a backslash, say: only others can be compared.
		case now.name != c.name || base(now.mode) != base(c.mode):
			moved = append(moved, c)
		default:
			reformed = append(reformed, c)
		}
	}
	var wrong []error
	if gone != nil {
		wrong = append(wrong, s.areGone(had, gone))
	}
	if moved != nil {
		wrong = append(wrong, s.areMoved(had, moved))
	}
	reformed, err := s.reform(ctx, tx, reformed)
	if err != nil {
		return err
	}
	if reformed != nil {
		wrong = append(wrong, s.areReformed(had, reformed))
	}
	return refuseAll(wrong)
}

// reform records the form that the options say of tables that have no rows yet, and
// returns the others. It needs a right that nothing else does.
func (s *session) reform(ctx context.Context, tx pgx.Tx, all []claim) (others []claim, err error) {
	var may bool
	if all == nil {
		return nil, nil
	}
	if err := tx.QueryRow(ctx, "select has_table_privilege($1, 'UPDATE')", s.d.catalog).Scan(&may); err != nil || !may {
		return all, err
	}
	for _, c := range all {
		var hasRows bool
		if err := tx.QueryRow(ctx, "select exists (select from "+c.name.String()+")").Scan(&hasRows); err != nil {
			return nil, err
		}
		if hasRows {
			others = append(others, c)
			continue
		}
		if _, err := tx.Exec(ctx, "update "+s.d.catalog+" set mode = $3 where schema_name = $1 and table_name = $2", c.name.schema, c.name.table, s.d.opts.form()); err != nil {
			return nil, err
		}
	}
	return others, nil
}

// base is a form's mode alone.
func base(form string) string {
	mode, _, _ := strings.Cut(form, " ")
	return mode
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

// areMoved refuses to leave rows behind in another table.
func (s *session) areMoved(had, moved []claim) error {
	return refuse("%s; change them back, or start without those rows by executing %s", few(moved, s.difference), s.forget(had, moved...))
}

// areReformed refuses to write rows of one form beside those of another, which readers of
// the table would not expect.
func (s *session) areReformed(had, reformed []claim) error {
	accept := fmt.Sprintf("UPDATE %s SET mode = %s WHERE %s", s.d.catalog, literal(s.d.opts.form()), s.rows(had, reformed))
	hint := "which leaves the rows that are there in their form"
	if s.d.opts.Mode == Mirror {
		hint += " until their collection is copied again (rigatoni checkpoint set --snapshot)"
	}
	return refuse("%s; a table would have rows of two forms: change the options back, or accept that by executing %s, %s", few(reformed, s.difference), accept, hint)
}

// difference is what was done and what is asked for.
func (s *session) difference(c claim) string {
	now := s.claimOf(c.ns)
	return fmt.Sprintf("%s is written to %s, a %s, and by the options it would be %s, a %s", c.ns, c.name, c.mode, now.name, now.mode)
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
