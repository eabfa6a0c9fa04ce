package main

import (
	"errors"
	"os"
)

var errNoReader = errors.New("nobody reads standard output: the process at the other end of the pipe has ended")

func crashByAbort() {}

func surviving(f *os.File) *os.File { return f }

func checkStdout(f *os.File) error {
	if _, err := f.Stat(); err != nil {
		return errors.New("standard output is closed: every event would be lost")
	}
	return nil
}
