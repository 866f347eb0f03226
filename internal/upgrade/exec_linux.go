package upgrade

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Self opens the image that runs, also when its file was replaced or removed.
func Self() (*Binary, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile("/proc/self/exe", unix.O_PATH, 0) // it may be executable and not readable
	if err != nil {
		return nil, fmt.Errorf("open this image, to come back to: %w", err)
	}
	return &Binary{f, path}, nil
}

// Exec replaces this image by b, which goes on from a state, or comes back to old. It returns only after an error, and
// then nothing has changed. Arguments, environment, working directory and other open files stay.
//
// SIGTERM and SIGINT end the process during exec, as they have no handler then. Other signals that the process catches
// should be ignored before.
func (b *Binary) Exec(h Handover, old *Binary) error {
	return replace(b.file, word(Next, int(h.State.Fd()), int(old.file.Fd()), ""),
		append(slices.Clone(h.Keep), int(h.State.Fd()), int(old.file.Fd())))
}

// Back replaces this image by the one before, which goes on from the same state. It returns only after an error.
func (s *Start) Back(reason error) error {
	if s.Role != Next {
		return fmt.Errorf("there is no image to go back to")
	}
	return replace(s.old, word(Back, int(s.state.Fd()), 0, reason.Error()), []int{int(s.state.Fd())})
}

// replace executes an open program. The descriptors in keep stay open.
func replace(program *os.File, word string, keep []int) error {
	var limit unix.Rlimit
	hasLimit := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil
	err := setAll(keep, false)
	if err == nil {
		err = syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", program.Fd()), os.Args, environment(word))
		if hasLimit {
			_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) // syscall.Exec has lowered it
		}
	}
	_ = setAll(keep, true)
	return fmt.Errorf("execute %s: %w", program.Name(), err)
}

// Duplicate returns another descriptor of an inherited file, which stays open.
func Duplicate(fd int) (*os.File, error) {
	copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	return os.NewFile(uintptr(copied), "inherited"), nil
}

func setAll(fds []int, on bool) error {
	for _, fd := range fds {
		if err := setCloseOnExec(fd, on); err != nil {
			return fmt.Errorf("descriptor %d: %w", fd, err)
		}
	}
	return nil
}

// environment is that of this process with the variable.
func environment(word string) []string {
	all := slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, variable+"=") })
	return append(all, variable+"="+word)
}

// SetName gives the process the name of a program in lists of processes: it was executed by descriptor.
func SetName(path string) {
	_ = os.WriteFile("/proc/self/comm", []byte(name(path)), 0) // without it nothing else is wrong
}
