// Package assert stands in for testify's where tests compare values of plain types: see Equal.
package assert

import "testing"

// Assertions belong to one test.
type Assertions struct{ t *testing.T }

// New returns the assertions of a test.
func New(t *testing.T) *Assertions { return &Assertions{t} }

// Equal fails the test unless both values are equal as testify (reflect.DeepEqual) has it.
// The type of one of them must be known to `same`; the harness builds other tests with testify.
func (a *Assertions) Equal(expected, actual interface{}, message ...interface{}) bool {
	if same(expected, actual) {
		return true
	}
	if !a.t.Failed() { // the first one is enough
		print("--- FAIL: not equal: expected ")
		show(expected)
		print(", got ")
		show(actual)
		print("\n")
	}
	a.t.Fail()
	return false
}

func same(a, b interface{}) bool {
	switch x := a.(type) {
	case nil, bool, string,
		int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64, float32, float64:
		return a == b
	case []bool:
		return list(x, b)
	case []string:
		return list(x, b)
	case []int:
		return list(x, b)
	case []int32:
		return list(x, b)
	case []int64:
		return list(x, b)
	case []float64:
		return list(x, b)
	case [2]bool:
		return a == b
	case [2]string:
		return a == b
	case [2]int:
		return a == b
	case [2]float64:
		return a == b
	case [2]interface{}:
		y, ok := b.([2]interface{})
		return ok && same(x[0], y[0]) && same(x[1], y[1])
	case [][2]int:
		return list(x, b)
	case []interface{}:
		y, ok := b.([]interface{})
		return ok && (x == nil) == (y == nil) && each(x, y, same)
	case [][]int:
		return lists(x, b)
	case [][]string:
		return lists(x, b)
	case map[int32]int:
		return table(x, b)
	case map[string]int:
		return table(x, b)
	case map[int]int:
		return table(x, b)
	}
	return false
}

func list[E comparable](x []E, b interface{}) bool {
	y, ok := b.([]E)
	return ok && alike(x, y)
}

func alike[E comparable](x, y []E) bool {
	return (x == nil) == (y == nil) && each(x, y, func(p, q E) bool { return p == q })
}

func lists[E comparable](x [][]E, b interface{}) bool {
	y, ok := b.([][]E)
	return ok && (x == nil) == (y == nil) && each(x, y, alike[E])
}

func each[E any](x, y []E, equal func(p, q E) bool) bool {
	if len(x) != len(y) {
		return false
	}
	for i := range x {
		if !equal(x[i], y[i]) {
			return false
		}
	}
	return true
}

func table[K, V comparable](x map[K]V, b interface{}) bool {
	y, ok := b.(map[K]V)
	if !ok || (x == nil) != (y == nil) || len(x) != len(y) {
		return false
	}
	for key, value := range x {
		if other, found := y[key]; !found || other != value {
			return false
		}
	}
	return true
}

// show prints the beginning of a value to standard error.
func show(value interface{}) {
	switch x := value.(type) {
	case nil:
		print("nil")
	case bool:
		print(x)
	case string:
		if len(x) > 60 {
			x = x[:60] + "..."
		}
		print("\"", x, "\"")
	case int:
		print(x)
	case int32:
		print(x)
	case int64:
		print(x)
	case float64:
		print(x)
	case []int:
		items(x)
	case []string:
		items(x)
	case []float64:
		items(x)
	case [2]int:
		items(x[:])
	case [2]float64:
		items(x[:])
	case [2]interface{}:
		items(x[:])
	default:
		print("another value")
	}
}

func items[E any](x []E) {
	print("[")
	for i, item := range x {
		if i > 0 {
			print(" ")
		}
		if i == 12 {
			print("...")
			break
		}
		show(item)
	}
	print("]")
}
