package pgstore

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rigatoni-etl/rigatoni/internal/option"
	"github.com/rigatoni-etl/rigatoni/state"
)

// A Store keeps checkpoints in a table of PostgreSQL. Its methods are safe for
// concurrent use.
type Store struct {
	pool   *pgxpool.Pool
	owned  bool // Close closes the pool
	opts   Options
	table  string      // its name, quoted
	begin  string      // begins a transaction
	ready  atomic.Bool // the table is there
	closed atomic.Bool
}

var (
	_ state.Leaser     = (*Store)(nil)
	_ state.Lister     = (*Store)(nil)
	_ state.BatchSaver = (*Store)(nil)
	_ state.Forgetter  = (*Store)(nil)
	_ state.Pinger     = (*Store)(nil)
)

// Open connects to the server that url names, and creates the table if it is missing.
// url is one that pgx accepts: postgres://user:password@host:port/database, with
// several hosts, sslmode and the like, parameters of the pool (pool_max_conns), and
// the options of this package.
//
// Open returns state.ErrInvalid for a URL or an option that is wrong,
// state.ErrUnavailable if no server answers that accepts writes (a standby may yet be
// promoted), and state.ErrRefused if one does and refuses: the password, a right, a
// database that doesn't exist.
func Open(ctx context.Context, url string, o *Options) (*Store, error) {
	config, opts, err := parse(url, o)
	if err != nil {
		return nil, failed("open", "", err)
	}
	pool, err := pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
	if err != nil {
		return nil, failed("open", "", fmt.Errorf("%w: %w", state.ErrInvalid, OneLine(err)))
	}
	s, err := New(pool, &opts)
	if err == nil {
		err = s.Prepare(ctx)
	}
	if err != nil {
		pool.Close()
		return nil, err
	}
	s.owned = true
	return s, nil
}

// Prepare checks the server and creates the table if it is missing, with the errors of
// [Open]. A store of [New] does that at its first call by itself.
func (s *Store) Prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.CallTimeout)
	defer cancel()
	return failed("open", "", describe(s.prepare(ctx)))
}

// CheckURL reports what is wrong with the URL and the options together, without
// connecting: the error that [Open] would return, or nil.
func CheckURL(url string, o *Options) error {
	_, _, err := parse(url, o)
	return failed("open", "", err)
}

func parse(url string, o *Options) (*pgxpool.Config, Options, error) {
	rest, opts, err := split(url, o)
	if err != nil {
		return nil, opts, err
	}
	config, err := PoolConfig(rest)
	if err != nil {
		return nil, opts, err
	}
	opts, err = opts.complete()
	return config, opts, err
}

// PoolConfig reads a URL that has parameters of PostgreSQL and of the pool only, for
// programs that share a pool with a store. Of several hosts the pool takes one that
// accepts writes: after a failover, the new primary. The error is state.ErrInvalid, and
// quotes nothing of the URL.
func PoolConfig(url string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, badURL(err)
	}
	if config.ConnConfig.ValidateConnect == nil {
		config.ConnConfig.ValidateConnect = acceptsWrites
	}
	return config, nil
}

// OpenURL is [Open] for a URL that has been parsed.
func OpenURL(ctx context.Context, u *url.URL, o *Options) (*Store, error) {
	return Open(ctx, u.String(), o)
}

// New makes a store with a pool of the caller's, which the store doesn't close. The
// first call does what [Open] does: it checks the server, and creates the table if it
// is missing. The error is state.ErrInvalid for an option that is wrong.
func New(pool *pgxpool.Pool, o *Options) (*Store, error) {
	opts, err := o.complete()
	if err != nil {
		return nil, failed("open", "", err)
	}
	return &Store{pool: pool, opts: opts, table: opts.identifier().Sanitize(), begin: begin(opts)}, nil
}

// begin is the statement that begins a transaction. Each transaction sets its own
// limits, so that they don't depend on what a proxy does to sessions. Should this
// process be suspended in the middle, the server ends it: another owner waits for
// the row no longer than that.
func begin(o Options) string {
	limit := max(o.CallTimeout.Milliseconds(), 1)
	return fmt.Sprintf("begin isolation level read committed read write; "+
		"set local lock_timeout = %d; set local idle_in_transaction_session_timeout = %d", limit, limit)
}

// prepare checks the server and creates the table if it is missing, once.
func (s *Store) prepare(ctx context.Context) error {
	if s.ready.Load() {
		return nil
	}
	err := s.prepareTable(ctx)
	s.ready.Store(err == nil)
	return err
}

func (s *Store) prepareTable(ctx context.Context) error {
	var encoding, readOnly string
	var exists bool
	err := s.pool.QueryRow(ctx, "select current_setting('server_encoding'), current_setting('transaction_read_only'), to_regclass($1) is not null", s.table).
		Scan(&encoding, &readOnly, &exists)
	switch {
	case err != nil:
		return err
	case readOnly == "on":
		return fmt.Errorf("%w: %w; name the primary", state.ErrRefused, errReadOnly)
	case encoding != "UTF8":
		return fmt.Errorf("%w: the database has the encoding %s; checkpoints need UTF8 (CREATE DATABASE … ENCODING 'UTF8')", state.ErrRefused, encoding)
	case exists:
		return s.checkRights(ctx)
	}
	return s.create(ctx)
}

// BeginTx begins a transaction for [Store.SaveTx]: one that waits for locks, and that
// its process may leave idle, for no longer than Options.CallTimeout, so that a process
// that is suspended in it can't hold up another owner.
func (s *Store) BeginTx(ctx context.Context) (pgx.Tx, error) {
	tx, err := s.pool.BeginTx(ctx, pgx.TxOptions{BeginQuery: s.begin})
	return tx, OneLine(err)
}

// Schema is the statement that creates the table.
func (s *Store) Schema() string {
	return "CREATE TABLE " + s.table + ` (key text COLLATE "C" PRIMARY KEY, record json NOT NULL)`
}

func (s *Store) create(ctx context.Context) error {
	err := s.createTable(ctx)
	switch code := sqlState(err); {
	case code == "42P07" || code == "42710" || code == "23505": // another process was faster
		return s.checkRights(ctx)
	case code == "42501" || code == "3F000":
		return fmt.Errorf("%w: the table of the checkpoints can't be created (%s); have somebody who may execute %s; and GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO the user",
			state.ErrRefused, message(err), s.Schema(), s.table)
	}
	return err
}

// createTable creates the table or, with Options.NoCreate, finds out whether it could.
func (s *Store) createTable(ctx context.Context) error {
	if !s.opts.NoCreate {
		_, err := s.pool.Exec(ctx, s.Schema())
		return err
	}
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, s.Schema())
	return cmp.Or(err, tx.Rollback(context.WithoutCancel(ctx)), ErrNoTable)
}

// checkRights refuses a table that the user may not use, or that is another one.
func (s *Store) checkRights(ctx context.Context) error {
	var missing []string
	for _, right := range []string{"SELECT", "INSERT", "UPDATE", "DELETE"} {
		var has bool
		if err := s.pool.QueryRow(ctx, "select has_table_privilege($1, $2)", s.table, right).Scan(&has); err != nil {
			return err
		}
		if !has {
			missing = append(missing, right)
		}
	}
	if missing != nil {
		return fmt.Errorf("%w: the user lacks rights: GRANT %s ON %s TO the user", state.ErrRefused, strings.Join(missing, ", "), s.table)
	}
	var columns int
	err := s.pool.QueryRow(ctx, `select count(*) from pg_attribute a join pg_type t on t.oid = a.atttypid where attrelid = to_regclass($1)
		and (attname, typname) in (('key', 'text'), ('record', 'json'))`, s.table).Scan(&columns)
	if err == nil && columns != 2 {
		return fmt.Errorf("%w: the table %s is another one; the table of the checkpoints is made by %s", state.ErrRefused, s.table, s.Schema())
	}
	return err
}

// acceptsWrites has a connection to a server that accepts no writes closed, so that the
// next host is tried.
func acceptsWrites(ctx context.Context, c *pgconn.PgConn) error {
	r := c.ExecParams(ctx, "show transaction_read_only", nil, nil, nil, nil).Read()
	switch {
	case r.Err != nil:
		return r.Err
	case len(r.Rows) == 1 && string(r.Rows[0][0]) == "on":
		return errReadOnly
	}
	return nil
}

// split takes the options of this package out of a URL, and overrides o with them.
func split(text string, o *Options) (rest string, opts Options, err error) {
	if o != nil {
		opts = *o
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return "", opts, badURL(err)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", opts, badURL(err)
	}
	if err := option.TakeFromQuery(&opts, query); err != nil {
		return "", opts, fmt.Errorf("%w: %w", state.ErrInvalid, err)
	}
	u.RawQuery = query.Encode()
	return u.String(), opts, nil
}

// Close closes the store, and its connections if [Open] made them. It waits for calls
// that run.
func (s *Store) Close() error {
	if !s.closed.Swap(true) && s.owned {
		s.pool.Close()
	}
	return nil
}

// Ping reports whether the server answers and has the table.
func (s *Store) Ping(ctx context.Context) error {
	return s.call(ctx, "ping", "", func(ctx context.Context) error {
		var any bool
		return s.pool.QueryRow(ctx, "select exists (select from "+s.table+")").Scan(&any)
	})
}
