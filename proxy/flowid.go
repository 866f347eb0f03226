package proxy

import (
	"fmt"
	"strconv"
	"strings"

	"usher/balancer"
	"usher/conntrack"
	"usher/proxy/flow"
)

// FlowID names a flow of a server, until the flow ends or the server is upgraded.
type FlowID struct {
	worker     int
	proto      conntrack.Proto
	slot       conntrack.ID
	generation uint32
}

// FlowID returns the name of the flow.
func (r *Row) FlowID() FlowID {
	return FlowID{worker: r.worker, proto: r.Key.Proto(), slot: r.ID, generation: r.Generation()}
}

// String returns what [ParseFlowID] reads, such as 3-tcp-1f-2.
func (id FlowID) String() string {
	b := make([]byte, 0, 32)
	b = strconv.AppendInt(b, int64(id.worker), 16)
	b = append(append(append(b, '-'), id.proto.String()...), '-')
	b = strconv.AppendUint(b, uint64(id.slot), 16)
	return string(strconv.AppendUint(append(b, '-'), uint64(id.generation), 16))
}

// ParseFlowID reads the name of a flow.
func ParseFlowID(s string) (id FlowID, err error) {
	parts := strings.Split(s, "-")
	if len(parts) != 4 {
		return id, fmt.Errorf("%.40q is no id of a flow", s)
	}
	for _, p := range []conntrack.Proto{conntrack.TCP, conntrack.UDP, conntrack.Unix} {
		if parts[1] == p.String() {
			id.proto = p
		}
	}
	var n [3]uint64
	for i, part := range []string{parts[0], parts[2], parts[3]} {
		if n[i], err = strconv.ParseUint(part, 16, 31); err != nil {
			break
		}
	}
	if err != nil || id.proto == 0 {
		return FlowID{}, fmt.Errorf("%.40q is no id of a flow", s)
	}
	id.worker, id.slot, id.generation = int(n[0]), conntrack.ID(n[1]), uint32(n[2])
	return id, nil
}

// row returns a row that only names the flow.
func (id FlowID) row() Row {
	r := conntrack.NewRow[flow.Service, balancer.Backend](id.slot, id.generation, conntrack.Key{}.OfProto(id.proto))
	return Row{Row: r, worker: id.worker}
}

// KillByID ends flows with a reset, as Kill does, and returns those that it has ended. The cost does not depend on how
// many others there are.
func (s *Server) KillByID(ids []FlowID) (ended []FlowID) {
	rows := make([]Row, 0, rowShare)
	for len(ids) > 0 {
		some := ids[:min(len(ids), rowShare)]
		ids = ids[len(some):]
		rows = rows[:0]
		for _, id := range some {
			rows = append(rows, id.row())
		}
		s.terminate(rows, flow.Killed)
		for i := range rows {
			if rows[i].isTerminated {
				ended = append(ended, some[i])
			}
		}
	}
	return ended
}
