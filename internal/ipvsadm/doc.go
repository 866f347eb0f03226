// Package ipvsadm is the language of ipvsadm 1.31 and the state that its commands change.
//
//	argv ─ Parser ─▶ Command ─ Do ─▶ State       one command, refused with the kernel's Errno in the words of ipvsadm
//	Command ─ Line ─▶ text ─ Parse ─▶ Command    on the way from the command line to the server
//	State ─ Save ─▶ text                         what ipvsadm -S prints, sorted; Lines keeps the order as well
//	View ─ Print ─▶ text                         what ipvsadm -L prints, and the files below /proc/net
//
// A State holds what was asked for, and nothing that runs: package dialect makes services of it, and Views of them. It
// takes all that the kernel takes. What usher does not do says Command.Unsupported, with the reason and what works.
//
// Messages, columns, orders and exit statuses are those of the real program with libpopt. Beyond it there are ranges of
// ports for services, -v of lists, and thresholds and timeouts in what is saved. A mask of persistence with holes is
// refused.
//
// A destination without a port has that of the service. One of a service of many ports (port 0, or a range) has port 0:
// the server gets the port that the client used. Any other port is the same for all clients.
package ipvsadm
