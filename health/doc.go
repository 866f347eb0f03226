// Package health finds out which backends can be used.
//
// A [Checker] asks one backend once; each kind of check is one file with one
// Checker. A [Tracker] turns the answers into up or down, counting
// consecutive ones (rise, fall); it is pure, without clock or socket. A
// [Monitor] puts the two together: it checks a set of targets again and
// again, spread over time, and reports a target's first result and every
// change after that. The monitor knows nothing of pools: whoever owns it
// carries its reports there.
package health
