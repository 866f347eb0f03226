// Package discovery keeps the names among a service's backends resolved.
//
// # What it owns
//
//	Resolver  answers once: the addresses of a host, or an SRV record set
//	Watcher   asks again when an answer expires, and reports changes
//
// internal/app has a Resolver for listeners, internal/reconcile a Watcher for backends.
//
// # States of a name
//
//	unknown ──answer──▶ resolved ◀──answer── failing
//	unknown, resolved ──error──▶ failing, retried after 1 s, 2 s, 4 s, …
//
// A name that fails keeps the records that it had.
//
// # How it asks
//
// Package net asks: it knows the hosts file, resolv.conf with its search list, timeouts
// and attempts, truncation and spoofing. It does not say how long an answer holds, which
// server failed, and which address family had no answer. A trace reads these from the
// connections that it makes for package net. Where package net asks the system instead
// (Windows, macOS), nothing is traced, and names are asked for every 10 s.
package discovery
