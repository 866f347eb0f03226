// Package dialect holds what the commands of ipvsadm and iptables have asked of a running usher, and makes services and
// rules of it.
//
//	ipvsadm lines  ─▶ ipvsadm.State ──┐ plan ┌─▶ control.Replace, owner ipvsadm
//	iptables lines ─▶ iptables.Tables ┴──────┴─▶ control.Replace, owner iptables
//	control's counters ─▶ ipvsadm.View, iptables listings, files below --proc DIR
//
// A batch of commands is one change. One that cannot run is refused with the reason, and the state is as before.
package dialect
