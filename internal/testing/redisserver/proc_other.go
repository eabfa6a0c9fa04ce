//go:build !linux

package redisserver

import "os/exec"

// dieWithParent does nothing where the kernel has no such feature: servers
// outlive a process that is killed.
func dieWithParent(*exec.Cmd) {}
