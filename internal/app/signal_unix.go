//go:build unix

package app

import (
	"os"
	"syscall"
)

// upgradeSignal asks for an upgrade; nil: the system has no such signal.
var upgradeSignal os.Signal = syscall.SIGUSR2
