// Package conformance tests TCP and UDP proxies from the outside, with real sockets. A
// case describes the proxy that it wants. A Target turns that into a command line or a
// configuration file. The case plays the clients and the backends. The same assertions
// run against each engine of usher and against other proxies. Table shows which target
// passes which case.
//
// The suite needs Linux: it reads /proc to see when a proxy listens, what it holds and
// what it costs. It needs no privilege. It uses ports that the kernel chose and keeps
// them reserved while a case runs.
package conformance
