//go:build !unix

package ndjson

import (
	"io/fs"
	"os"
)

const openFlags = 0

func device(fs.FileInfo) uint64 { return 0 }

func lock(*os.File) use { return unknown }

// syncDir does nothing: directories can't be flushed here.
func (osFS) syncDir(string) error { return nil }
