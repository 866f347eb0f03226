// Package demo is what `usher demo` puts around a service, all on loopback: small HTTP
// backends ([Start]), a trickle of clients ([Traffic]), and a live line for each backend
// ([View]). internal/app calls it.
package demo
