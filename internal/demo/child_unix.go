//go:build unix

package demo

import (
	"io"
	"os"
	"syscall"
)

// ownGroup keeps the signals of a terminal's keys from a child.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// endWithUs has nothing to do: the child notices the end of its stdout.
func endWithUs(*os.Process) (io.Closer, error) { return nil, nil }
