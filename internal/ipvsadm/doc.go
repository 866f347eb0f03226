// Package ipvsadm is the language of ipvsadm 1.31 and the state that its commands change.
//
//	argv ─ Parse ─▶ Command ─ Do ─▶ State        one command, refused with the kernel's Errno
//	State ─ Save ─▶ lines                       what ipvsadm -S -n prints; Parse reads each of them
//	View ─ Listing ─▶ text                      what ipvsadm -L prints, and the files below /proc/net
//
// A State holds what was asked for, and nothing that runs: package dialect makes services of it, and Views of them.
// Messages, columns and exit statuses are those of ipvsadm; an [Errno] stands for the error number of the kernel.
package ipvsadm
