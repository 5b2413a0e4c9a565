// The file of a program that comes before the program's own: Go initialises variables of a package
// in the order of its files, so the token is read before anything of the candidate runs. It goes to
// a variable of the program's file that has another name in each program.

package main

import (
	astraios "astraios/driver"
	"testing"
)

var _ = astraiosBegin()

func astraiosRead(to []byte)                         { astraios.Read(to) }
func astraiosWrite(from []byte)                      { astraios.Write(from) }
func astraiosRun(name string, test func(*testing.T)) { astraios.Run(name, test) }
