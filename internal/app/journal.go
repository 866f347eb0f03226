package app

import "sync"

// journal logs things in the order in which they were decided, but not while they are decided: add is for whoever holds
// a lock, flush for when it is given back. Nothing is logged before begin, so that a start tells of its problems after
// the lines that explain what has them.
type journal struct {
	mu    sync.Mutex
	begun bool
	lines []func()

	writing sync.Mutex // taken before mu; keeps the order
}

// add appends a line, for flush to log.
func (j *journal) add(line func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

// flush logs what was added.
func (j *journal) flush() {
	j.writing.Lock()
	defer j.writing.Unlock()
	j.mu.Lock()
	var lines []func()
	if j.begun {
		lines, j.lines = j.lines, nil
	}
	j.mu.Unlock()
	for _, line := range lines {
		line()
	}
}

// begin logs what was added up to now, and lets later lines through.
func (j *journal) begin() {
	j.mu.Lock()
	j.begun = true
	j.mu.Unlock()
	j.flush()
}
