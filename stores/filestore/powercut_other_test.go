//go:build !linux

package filestore

import "testing"

func TestPowerCut(t *testing.T) {
	t.Skip("power cuts need Linux, and there ext4 and xfs in loop devices")
}
