//go:build !linux && !windows

package proxy

import (
	"syscall"

	"usher/proxy/flow"
)

// systemErrnoClasses: this system has the common errors alone.
var systemErrnoClasses map[syscall.Errno]flow.Class
