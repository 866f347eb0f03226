package ipvsadm

import (
	"bufio"
	"fmt"
	"io"
	"iter"
)

// PrintConnections writes what -L -c prints.
func (f Format) PrintConnections(w io.Writer, all iter.Seq[Connection], n Names) error {
	if f.Numeric {
		n = Names{}
	}
	out := bufio.NewWriter(w)
	out.WriteString("IPVS connection entries\n")
	fmt.Fprintf(out, "pro expire %-11s %-18s %-18s ", "state", "source", "virtual")
	if f.PersistentConn {
		fmt.Fprintf(out, "%-18s %-16s %s\n", "destination", "pe name", "pe_data")
	} else {
		out.WriteString("destination\n")
	}
	var client, virtual, destination []byte
	for c := range all {
		client = n.appendAddr(client[:0], c.Client, c.Protocol)
		virtual = n.appendAddr(virtual[:0], c.Virtual, c.Protocol)
		destination = n.appendAddr(destination[:0], c.Destination, c.Protocol)
		expires := fmt.Sprintf("%02d:%02d", c.Expires/60, c.Expires%60) // minutes go on after 59
		fmt.Fprintf(out, "%-3s %-6s %-11s %-18s %-18s ", c.name(), expires, c.State, client, virtual)
		if f.PersistentConn && c.Engine != "" {
			fmt.Fprintf(out, "%-16s %-18s %s\n", destination, c.Engine, c.EngineData)
		} else {
			fmt.Fprintf(out, "%s\n", destination)
		}
	}
	return out.Flush()
}

// name is that of the protocol. A template of a firewall mark has none of its own.
func (c *Connection) name() string {
	if c.Protocol == 0 {
		return "IP"
	}
	return c.Protocol.name()
}
