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
	statusNoTable = 3
	statusRefused = 4 // by the kernel
)

// Version is that of the program whose words and formats these are. Scripts ask for it.
const Version = "v1.8.9 (nf_tables)"

// Error is a mistake in a line.
type Error struct {
	Message string // in iptables' words where it has some
	Advice  string // what to do about it; may be empty
	Status  int    // with which iptables ends
	Line    int    // index of the line, of Build; of Restore, which counts from 1
	Offset  int    // in bytes, of the word at fault in its line

	IsRefusal bool // iptables would do it, and usher cannot; Advice has the reason or the remedy

	isBare         bool // the program's name does not stand before the message
	isSilent       bool // only the advice to ask for help is written
	isIncompatible bool // of status 1: the version does
	isPlain        bool // of status 1: the line is in the message
	hasBlank       bool // a blank line follows
	isInvalid      bool // of status 1: it advises to look at the kernel's messages
}

// Error returns the message, and the advice in parentheses.
func (e *Error) Error() string {
	if e.Advice == "" {
		return e.Message
	}
	return e.Message + " (" + e.Advice + ")"
}

// Text returns what the program of a name writes to its standard error. line is that of iptables-restore, or 0.
func (e *Error) Text(program string, line int) string {
	message := e.Message
	if e.IsRefusal {
		if message = e.Error(); line > 0 {
			message = fmt.Sprintf("line %d: %s", line, message)
		}
	}
	if e.Status == statusAbsent && !e.isIncompatible {
		if line > 0 && !e.isPlain {
			return fmt.Sprintf("%s: line %d failed: %s.\n", program, line, strings.TrimSuffix(e.Message, "."))
		}
		if e.isInvalid {
			message += " Run `dmesg' for more information."
		}
		return program + ": " + message + "\n"
	}
	if !e.isBare {
		message = program + " " + Version + ": " + message
	}
	if message += "\n"; e.isSilent {
		message = ""
	}
	if e.hasBlank {
		message += "\n"
	}
	if e.Status == statusNoTable {
		message += "Perhaps iptables or your kernel needs to be upgraded.\n"
	}
	if e.Status != statusUsage {
		return message
	}
	if line > 0 {
		message += fmt.Sprintf("Error occurred at line: %d\n", line)
	}
	return message + fmt.Sprintf("Try `%s -h' or '%s --help' for more information.\n", program, program)
}

// errorf returns an error of the usage of iptables. The parser adds the offset.
func errorf(format string, args ...any) *Error {
	return &Error{Message: fmt.Sprintf(format, args...), Status: statusUsage, Offset: unplaced}
}

// absent returns the error of a chain, rule or target that does not exist.
func absent(format string, args ...any) *Error {
	return errorf(format, args...).withStatus(statusAbsent)
}

// kernelError returns an error of the kernel's, for a change of a chain.
func kernelError(change, reason, of string) *Error {
	return errorf(" %s failed (%s): %s", change, reason, of).withStatus(statusRefused)
}

// refusal returns the error of what iptables would do, and usher cannot.
func refusal(format string, args ...any) *Error {
	e := errorf(format, args...).withStatus(statusRefused)
	e.IsRefusal = true
	return e
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

func (e *Error) withBlank() *Error {
	e.hasBlank = true
	return e
}

// at places an error that has no place yet.
func (e *Error) at(offset int) *Error {
	if e != nil && e.Offset == unplaced {
		e.Offset = offset
	}
	return e
}
