// Package conformance asks TCP and UDP proxies to behave, with real sockets and from
// the outside: a case describes the proxy that it wants, an adapter turns that
// into a command line or a configuration file, and the case plays the clients
// and the backends. The same assertions run against each engine of usher and
// against other proxies, so a table can say who passes what.
//
// The suite needs Linux: it reads /proc to see when a proxy listens, what it
// holds and what it costs. It needs no privilege, and it uses ports that the
// kernel chose and keeps them reserved while a case runs.
package conformance
