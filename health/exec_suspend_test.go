//go:build unix

package health

import (
	"errors"
	"testing"
	"time"
)

// TestSuspendPrograms is not parallel: programs are suspended in the whole process.
func TestSuspendPrograms(t *testing.T) {
	program := func(words ...string) *Exec {
		t.Helper()
		c, err := NewExec(words)
		if err != nil {
			t.Skip(err)
		}
		return c
	}
	slow, quick := program("sleep", "1000"), program("true")
	results, begun := make(chan error, 2), time.Now()
	go func() { results <- slow.Check(t.Context(), Target{Network: "tcp", Address: "127.0.0.1:1"}) }()
	for { // until it runs
		programs.mu.Lock()
		n := programs.count
		programs.mu.Unlock()
		if n > 0 {
			break
		}
		if time.Since(begun) > time.Minute {
			t.Fatal("it does not begin")
		}
		time.Sleep(time.Millisecond)
	}
	resume := SuspendPrograms() // returns when the program was reaped
	go func() { results <- quick.Check(t.Context(), Target{Network: "tcp", Address: "127.0.0.1:1"}) }()
	select {
	case err := <-results:
		t.Errorf("a check ends while programs are suspended: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	resume()
	var inconclusive int
	for range 2 {
		err := <-results
		if err != nil && !errors.Is(err, ErrInconclusive) {
			t.Error(err)
		}
		if err != nil {
			inconclusive++
		}
	}
	if inconclusive != 1 {
		t.Errorf("%d checks are inconclusive, want that whose program was killed", inconclusive)
	}
	if err := quick.Check(t.Context(), Target{Network: "tcp", Address: "127.0.0.1:1"}); err != nil {
		t.Error("afterwards:", err)
	}
}
