package pgstore

// StoredKey is how a key is written in the table.
var StoredKey = storedKey

// PageSize is how many rows a listing reads at once.
const PageSize = pageSize

// BeginStatement is what begins a transaction of the store.
func (s *Store) BeginStatement() string { return s.begin }
