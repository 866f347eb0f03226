package proxy

import (
	"errors"
	"syscall"

	"usher/proxy/flow"
)

// errnoClasses is the one table of errors. systemErrnoClasses has what is different or
// more on one system.
var errnoClasses = map[syscall.Errno]flow.Class{
	syscall.ECONNRESET:   flow.ClassReset,
	syscall.ECONNABORTED: flow.ClassReset,
	syscall.EPIPE:        flow.ClassReset,

	syscall.ETIMEDOUT: flow.ClassTimedOut,

	syscall.EHOSTUNREACH: flow.ClassUnreachable,
	syscall.ENETUNREACH:  flow.ClassUnreachable,
	syscall.EHOSTDOWN:    flow.ClassUnreachable,
	syscall.ENETDOWN:     flow.ClassUnreachable,

	syscall.ECONNREFUSED: flow.ClassRefused,
	syscall.ENOPROTOOPT:  flow.ClassRefused, // ICMP protocol unreachable
	syscall.EACCES:       flow.ClassRefused, // ICMPv6 administratively prohibited

	syscall.EMFILE:  flow.ClassNoResources,
	syscall.ENFILE:  flow.ClassNoResources,
	syscall.ENOBUFS: flow.ClassNoResources,
	syscall.ENOMEM:  flow.ClassNoResources,
	syscall.ENOSPC:  flow.ClassNoResources, // fs.epoll.max_user_watches

	syscall.EADDRNOTAVAIL: flow.ClassNoLocalPort,
	syscall.EADDRINUSE:    flow.ClassNoLocalPort,

	syscall.EAGAIN:   flow.ClassFull,
	syscall.EMSGSIZE: flow.ClassOversized,

	syscall.EINTR:      flow.ClassTransient,
	syscall.EPROTO:     flow.ClassTransient, // ICMP parameter problem
	syscall.EOPNOTSUPP: flow.ClassTransient, // ICMP source route failed
}

// classifyErrno looks an error of the kernel up.
func classifyErrno(e syscall.Errno) flow.Class {
	if e == 0 {
		return flow.ClassOther
	}
	if class, ok := systemErrnoClasses[e]; ok {
		return class
	}
	return errnoClasses[e]
}

// classifyError looks up what package net has wrapped.
func classifyError(err error) flow.Class {
	if err == nil {
		return flow.ClassOther
	}
	var e syscall.Errno
	if errors.As(err, &e) {
		return classifyErrno(e)
	}
	return flow.ClassOther
}
