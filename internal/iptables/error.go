package iptables

import (
	"fmt"
	"strings"

	"usher/internal/nearest"
)

// Statuses with which iptables ends.
const (
	statusAbsent  = 1 // what the command names is not there
	statusUsage   = 2
	statusRefused = 4 // by the kernel
)

// Error is a mistake in a line.
type Error struct {
	Message string // in iptables' words where it has some
	Advice  string // what to do about it; may be empty
	Status  int    // with which iptables ends
	Line    int    // index of the line, of Build
	Offset  int    // in bytes, of the word at fault in its line
}

// Error returns the message, and the advice in parentheses.
func (e *Error) Error() string {
	if e.Advice == "" {
		return e.Message
	}
	return e.Message + " (" + e.Advice + ")"
}

// errorf returns an error of the usage of iptables. The parser adds the offset.
func errorf(format string, args ...any) *Error {
	return &Error{Message: fmt.Sprintf(format, args...), Status: statusUsage, Offset: unplaced}
}

// unplaced is the offset of an error that belongs to the word that is being read.
const unplaced = -1

func (e *Error) advise(format string, args ...any) *Error {
	e.Advice = fmt.Sprintf(format, args...)
	return e
}

// adviseOneOf advises the nearest of the words that there are, and all of them.
func (e *Error) adviseOneOf(word string, have []string) *Error {
	e.Advice = strings.Trim(nearest.OrHave(word, have), " ()")
	return e
}

func (e *Error) withStatus(status int) *Error {
	e.Status = status
	return e
}

// at places an error that has no place yet.
func (e *Error) at(offset int) *Error {
	if e != nil && e.Offset == unplaced {
		e.Offset = offset
	}
	return e
}
