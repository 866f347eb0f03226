// Package demo has what `usher demo` puts around a service so that there is
// something to look at: small HTTP backends that say who they are
// ([Start]), a trickle of clients ([Traffic]), and a live line for each
// backend ([View]). All of it stays on the loopback interface.
package demo
