// Package discovery keeps the host names among a service's backends resolved
// while the program runs. A [Resolver] answers once; a [Watcher] asks again
// and again, and publishes what is new. What does not resolve at start, or
// stops to resolve later, is tried until it does.
package discovery
