package main

import (
	"context"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/rigatoni-etl/rigatoni"
)

// A supervisor is the service manager that started the process, as sd_notify(3) has it:
// a socket that takes messages. The zero supervisor takes none.
type supervisor struct {
	conn     net.Conn
	watchdog time.Duration // how long it waits for a sign of life; 0 for ever
}

// supervisorOf is the supervisor that the environment names.
func supervisorOf(env func(string) (string, bool)) supervisor {
	if env == nil {
		return supervisor{}
	}
	path, _ := env("NOTIFY_SOCKET")
	if path == "" {
		return supervisor{}
	}
	conn, err := net.Dial("unixgram", path)
	if err != nil {
		return supervisor{} // whoever set it doesn't listen: nobody has to know
	}
	s := supervisor{conn: conn}
	if usec, _ := env("WATCHDOG_USEC"); usec != "" {
		if n, err := strconv.ParseInt(usec, 10, 64); err == nil && n > 0 {
			s.watchdog = time.Duration(n) * time.Microsecond
		}
	}
	return s
}

// tell sends assignments. One that gets lost is followed by another.
func (s supervisor) tell(assignments ...string) {
	if s.conn != nil {
		_, _ = s.conn.Write([]byte(strings.Join(assignments, "\n")))
	}
}

// beat is the time between two signs of life.
func (s supervisor) beat() time.Duration {
	const most = 10 * time.Second
	if s.watchdog > 0 {
		return min(most, s.watchdog/3)
	}
	return most
}

// extension is how much time each sign of life asks for, while the pipeline starts and
// while it stops.
func (s supervisor) extension() string {
	return "EXTEND_TIMEOUT_USEC=" + strconv.FormatInt((3*s.beat()).Microseconds(), 10)
}

// attend tells the supervisor how the pipeline is, until done is closed: ready when every
// stream is open, however long that takes (a standby waits for a lease); from then on
// alive, and how far it is. A pipeline whose status can't be read, and messages that
// can't be written, are no life: the supervisor's watchdog ends the process.
func (s supervisor) attend(ctx context.Context, done <-chan struct{}, p *rigatoni.Pipeline, screen *console) {
	if s.conn == nil {
		return
	}
	defer s.conn.Close()
	var ready <-chan struct{} = p.Ready()
	stopping := ctx.Done()
	m, starting := meter{started: time.Now()}, true
	t := time.NewTicker(s.beat())
	defer t.Stop()
	for {
		var say []string
		select {
		case <-done:
			return
		case <-stopping:
			stopping, starting = nil, true
			say = append(say, "STOPPING=1", s.extension())
		case <-ready:
			ready = nil
			if p.Wait(ctx) != nil {
				continue // it has failed, or is being stopped
			}
			starting = false
			say = append(say, "READY=1")
		case <-t.C:
		}
		_ = screen.answers()
		status := m.measure(total(p.Status()), time.Now()).line()
		say = append(say, "WATCHDOG=1", "STATUS="+oneLine(status))
		if starting {
			say = append(say, s.extension())
		}
		s.tell(say...)
	}
}

// answers returns when no message is being written.
func (c *console) answers() (status string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}
