package changestream

import "strings"

// legacyPrefix is that of the names under which the Rust crate rigatoni-stores keeps
// resume tokens (see state.Legacy).
const legacyPrefix = "rigatoni:resume_token:"

// legacyFields are the fields of a fingerprint, as far as the name of a token of the
// Rust crate has them. The crate has two names for each stream. The first lacks the
// database of a collection:
//
//	delivered up to    read up to
//	users              resume_token:shop:users
//	__db:shop          resume_token:database:shop
//	__deployment__     resume_token:deployment
func legacyFields(name string) map[string]string {
	fields := map[string]string{}
	set := func(field, value string) {
		if value != "" {
			fields[field] = escaper.Replace(value)
		}
	}
	read, isRead := strings.CutPrefix(name, "resume_token:")
	db, collection, isCollection := strings.Cut(read, ":")
	switch {
	case name == "__deployment__", isRead && read == "deployment":
	case strings.HasPrefix(name, "__db:"):
		set(fieldDatabase, strings.TrimPrefix(name, "__db:"))
	case isRead && isCollection && db == "database":
		set(fieldDatabase, collection)
	case isRead && isCollection:
		set(fieldDatabase, db)
		set(fieldCollections, collection)
	default:
		set(fieldCollections, name)
	}
	return fields
}
