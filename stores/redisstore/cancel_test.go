package redisstore_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/rigatoni-etl/rigatoni/internal/testing/redisserver"
	"github.com/rigatoni-etl/rigatoni/state"
	"github.com/rigatoni-etl/rigatoni/stores/redisstore"
)

// A cancellation is heeded at once, whatever the call does at the time, and the
// calls beside it are not disturbed.
func TestCancellation(t *testing.T) {
	pki := redisserver.TestPKI(t)
	plain := redisserver.Start(t, &redisserver.Options{Socket: true})
	secured := redisserver.Start(t, &redisserver.Options{TLS: pki})
	for server, urls := range map[*redisserver.Server]map[string]string{
		plain:   {"TCP": plain.URL(), "socket": "unix://" + plain.Socket},
		secured: {"TLS": secured.URL() + "?tls-ca-file=" + pki.CAFile},
	} {
		for name, u := range urls {
			o := redisstore.Options{ReadTimeout: time.Minute, WriteTimeout: time.Minute}
			s := open(t, u, o)
			// What was cancelled before may have been done all the same.
			want(t, s.Forget(t.Context(), "k"), nil, "Forget")
			want(t, s.Save(t.Context(), "k", checkpoint(t, "82AA", 1)), nil, "Save")
			big := checkpoint(t, "82AA", 2)
			big.Extra = map[string]jsonDoc{"big": bigDoc(400 << 10)} // more than a Unix socket holds; TCP holds some MB
			for what, op := range map[string]func(context.Context) error{
				"reading": func(ctx context.Context) error { _, err := s.Load(ctx, "k"); return err },
				"writing": func(ctx context.Context) error { return s.Save(ctx, "k", big) },
				"listing": func(ctx context.Context) error {
					for _, err := range s.List(ctx, "") {
						return err
					}
					return nil
				},
			} {
				want(t, server.Freeze(), nil, "Freeze")
				patient := make(chan error, 1)
				go func() { _, err := s.Load(context.Background(), "k"); patient <- err }()
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(500*time.Millisecond, cancel)
				err := within(t, 490*time.Millisecond, 500*time.Millisecond+slack, name+", "+what, func() error { return op(ctx) })
				want(t, err, context.Canceled, name+", "+what)
				want(t, err, state.ErrUnavailable, name+", "+what)
				want(t, server.Thaw(), nil, "Thaw")
				want(t, <-patient, nil, name+": a call that was not cancelled, beside one "+what)
			}
		}
	}
}

// Calls that are cancelled at every moment don't harm those that get their
// connection next.
func TestCancellationOfOneIsNoOthers(t *testing.T) {
	server := redisserver.Start(t, nil)
	s := open(t, server.URL(), redisstore.Options{MaxRetries: -1, PoolSize: 2})
	want(t, s.Save(t.Context(), "k", checkpoint(t, "82AA", 1)), nil, "Save")
	var calls sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		calls.Go(func() {
			for i := time.Duration(0); ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithCancel(context.Background())
				time.AfterFunc(i%200*time.Microsecond, cancel)
				if _, err := s.Load(ctx, "k"); err != nil {
					want(t, err, context.Canceled, "a cancelled call")
				}
				cancel()
			}
		})
	}
	for range 1500 {
		if _, err := s.Load(context.Background(), "k"); err != nil {
			t.Errorf("a call that was not cancelled: %v", err)
			break
		}
	}
	close(stop)
	calls.Wait()
}
