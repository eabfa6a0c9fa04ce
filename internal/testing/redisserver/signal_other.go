//go:build !unix

package redisserver

import (
	"errors"
	"fmt"
	"os"
)

func freeze(*os.Process) error      { return fmt.Errorf("freeze: %w", errors.ErrUnsupported) }
func thaw(*os.Process) error        { return nil }
func terminate(p *os.Process) error { return p.Kill() }
