//go:build !race

package testbinary

const race = false
