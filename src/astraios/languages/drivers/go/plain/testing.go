// Package testing stands in for the standard one where tests need no more of it than is here:
// with the real one, linking a program takes twice as long. A program that uses anything else does
// not compile with it and is built with the real package.
package testing

import "runtime"

// T is the state of one test.
type T struct{ failed bool }

// Fail marks the test as failed and goes on.
func (t *T) Fail() { t.failed = true }

// FailNow marks the test as failed and ends it.
func (t *T) FailNow() {
	t.failed = true
	runtime.Goexit()
}

// Failed says whether the test has failed.
func (t *T) Failed() bool { return t.failed }

// Helper does nothing: lines are not reported.
func (t *T) Helper() {}
