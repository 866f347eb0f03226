// Package upgrade replaces the image of a running process by another binary, and goes back if that cannot go on. It knows
// nothing of what is handed over: a state is bytes in a sealed memfd, and descriptors that keep their numbers.
//
//	image that runs                 child                  next image
//	Open ─ Ask ── memfd ───────────▶ Start{Check} ─ Answer
//	Open ─ Exec ─ memfd, exec ────────────────────────────▶ Start{Next} ─ Keep ─▶ runs
//	   ▲                                                        │
//	   └──────── Start{Back} ◀── the same memfd, exec ── Back ──┘
//
// What a binary is asked and what runs then is one open file, whatever stands at its path meanwhile. The way from image to
// image is one environment variable, which Inherited reads and removes.
package upgrade

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// variable has what an image begins with: the role, and the descriptors.
const variable = "USHER_UPGRADE"

// Role is what an image was started for.
type Role string

const (
	Check Role = "check" // says whether it could go on from a state, and ends
	Next  Role = "next"  // goes on from a state, or goes back
	Back  Role = "back"  // goes on from the state that it has written, as another image could not
)

// maxReason bounds the text of a failure, in bytes.
const maxReason = 1024

// Binary is a program file that stays open.
type Binary struct {
	file *os.File
	path string
}

// Open opens the program at a path. The error says why it cannot run.
func Open(path string) (*Binary, error) {
	f, err := os.Open(path)
	if err != nil {
		if e, ok := errors.AsType[*fs.PathError](err); ok {
			err = e.Err
		}
		return nil, fmt.Errorf("binary %s: %w", path, err)
	}
	if err := check(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("binary %s: %w", path, err)
	}
	return &Binary{f, path}, nil
}

// elf begins every program; a script needs a path for its interpreter to read.
const elf = "\x7fELF"

func check(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return errors.New("it is no file")
	case mode.Perm()&0o111 == 0:
		return errors.New("it is not executable")
	case mode.Perm()&0o002 != 0:
		return errors.New("others may write to it")
	}
	begin := make([]byte, len(elf))
	if n, err := f.ReadAt(begin, 0); err != nil && err != io.EOF || string(begin[:n]) != elf {
		return errors.New("it is no program of this system (a script cannot take over)")
	}
	return nil
}

// Close closes the file.
func (b *Binary) Close() { b.file.Close() }

// Handover is what one image leaves to the next.
type Handover struct {
	State *os.File // of Store
	Keep  []int    // descriptors that the next image has under the same numbers
}

// Start is how this image was started.
type Start struct {
	Role   Role
	Reason string // why the other image could not go on, of Back
	state  *os.File
	old    *os.File // the image before, of Next
}

// Inherited returns how this image was started by another one; nil if it was not.
func Inherited() (*Start, error) {
	word := os.Getenv(variable)
	if word == "" {
		return nil, nil
	}
	if err := os.Unsetenv(variable); err != nil {
		return nil, err
	}
	s, err := parse(word)
	if err != nil {
		return nil, fmt.Errorf("%s=%.100q: %w (it is for usher itself: unset it)", variable, word, err)
	}
	return s, nil
}

// parse is the reverse of word.
func parse(word string) (*Start, error) {
	parts := strings.SplitN(word, ":", 4)
	if len(parts) != 4 {
		return nil, errors.New("it has not four parts")
	}
	s := &Start{Role: Role(parts[0]), Reason: parts[3]}
	var err error
	if s.state, err = inherit(parts[1], "state"); err != nil {
		return nil, err
	}
	switch s.Role {
	case Next:
		s.old, err = inherit(parts[2], "old image")
	case Check, Back:
	default:
		err = errors.New("there is no such role")
	}
	return s, err
}

// word is the value of the variable.
func word(role Role, state, old int, reason string) string {
	reason = strings.ToValidUTF8(strings.ReplaceAll(reason, "\x00", ""), "?")
	return fmt.Sprintf("%s:%d:%d:%s", role, state, old, reason[:min(len(reason), maxReason)])
}

// inherit takes an inherited descriptor over.
func inherit(number, what string) (*os.File, error) {
	fd, err := strconv.Atoi(number)
	if err != nil || fd <= 2 {
		return nil, fmt.Errorf("the descriptor of the %s is %q", what, number)
	}
	if err := setCloseOnExec(fd, true); err != nil {
		return nil, fmt.Errorf("descriptor %d of the %s: %w", fd, what, err)
	}
	return os.NewFile(uintptr(fd), what), nil
}

// State returns what was handed over.
func (s *Start) State() ([]byte, error) { return load(s.state) }

// Keep has this image go on; there is no way back from then on. Programs that it executes do not inherit the descriptors
// in use. Others that were handed over are closed, but for 0, which is none.
func (s *Start) Keep(inUse []int, others ...int) {
	for _, fd := range inUse {
		_ = setCloseOnExec(fd, true) // it is open
	}
	for _, fd := range others {
		if fd != 0 {
			os.NewFile(uintptr(fd), "inherited").Close()
		}
	}
	s.state.Close()
	if s.old != nil {
		s.old.Close()
	}
}

// name returns how the process is called in lists of processes.
func name(path string) string { return filepath.Base(path) }
