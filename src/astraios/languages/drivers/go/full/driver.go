// Package driver runs the tests of a program. It keeps nothing that a program might look for.
package driver

import (
	"syscall"
	"testing"
	"testing/internal/testdeps"
)

// Read fills `to` from the verdict channel.
func Read(to []byte) {
	if n, err := syscall.Read(3, to); n != len(to) || err != nil {
		print("no word from the server\n")
		syscall.Exit(3)
	}
}

// Write sends the verdict.
func Write(verdict []byte) { syscall.Write(3, verdict) }

// Run returns if `test` passes, run as `go test` runs it.
func Run(name string, test func(*testing.T)) {
	finished := false
	tests := []testing.InternalTest{{Name: name, F: func(t *testing.T) {
		test(t)
		finished = true
	}}}
	if testing.MainStart(testdeps.TestDeps{}, tests, nil, nil, nil).Run() != 0 || !finished {
		syscall.Exit(1)
	}
}
