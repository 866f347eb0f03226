package proxy

import (
	"syscall"

	"usher/proxy/flow"
)

// systemErrnoClasses has Winsock's numbers, which package net passes on. Those of
// package syscall that have POSIX names are made up there.
var systemErrnoClasses = map[syscall.Errno]flow.Class{
	10013: flow.ClassRefused,     // WSAEACCES
	10024: flow.ClassNoResources, // WSAEMFILE
	10035: flow.ClassFull,        // WSAEWOULDBLOCK
	10040: flow.ClassOversized,   // WSAEMSGSIZE
	10048: flow.ClassNoLocalPort, // WSAEADDRINUSE
	10049: flow.ClassNoLocalPort, // WSAEADDRNOTAVAIL
	10050: flow.ClassUnreachable, // WSAENETDOWN
	10051: flow.ClassUnreachable, // WSAENETUNREACH
	10052: flow.ClassTimedOut,    // WSAENETRESET: keepalive had no answer
	10053: flow.ClassReset,       // WSAECONNABORTED
	10054: flow.ClassReset,       // WSAECONNRESET
	10055: flow.ClassNoResources, // WSAENOBUFS
	10060: flow.ClassTimedOut,    // WSAETIMEDOUT
	10061: flow.ClassRefused,     // WSAECONNREFUSED
	10064: flow.ClassUnreachable, // WSAEHOSTDOWN
	10065: flow.ClassUnreachable, // WSAEHOSTUNREACH
}
