package ipvsadm

import (
	"io"
	"iter"
)

// WriteProcServices writes v as /proc/net/ip_vs.
func WriteProcServices(w io.Writer, v *View) error { return nil }

// WriteProcConnections writes connections as /proc/net/ip_vs_conn.
func WriteProcConnections(w io.Writer, all iter.Seq[Connection]) error { return nil }

// WriteProcStats writes the sums of v's services as /proc/net/ip_vs_stats.
func WriteProcStats(w io.Writer, v *View) error { return nil }
