//go:build !unix

package ndjson

import "os"

func lock(*os.File) use { return unknown }

// syncDir does nothing: directories can't be flushed here.
func (osFS) syncDir(string) error { return nil }
