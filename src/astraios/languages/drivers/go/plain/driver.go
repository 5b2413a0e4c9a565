// Package driver runs the tests of a program. It keeps nothing that a program might look for.
package driver

import (
	"syscall"
	"testing"
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

// Run returns if `test` passes.
func Run(name string, test func(*testing.T)) {
	t, over := new(testing.T), make(chan bool)
	go func() {
		finished := false
		defer func() {
			if finished || t.Failed() {
				over <- finished && !t.Failed()
			} else if recovered := recover(); recovered != nil {
				panic(recovered)
			} else {
				print("--- FAIL: " + name + ": its goroutine was ended\n")
				over <- false
			}
		}()
		test(t)
		finished = true
	}()
	if !<-over {
		syscall.Exit(1)
	}
}
