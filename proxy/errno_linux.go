package proxy

import (
	"syscall"

	"usher/proxy/flow"
)

// systemErrnoClasses has what Linux alone says.
var systemErrnoClasses = map[syscall.Errno]flow.Class{
	syscall.ENONET: flow.ClassUnreachable,   // ICMP source host isolated
	syscall.EPIPE:  flow.ClassResetAfterFIN, // elsewhere a write after any reset may say so
}
