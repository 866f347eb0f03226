package proxy

import "runtime"

// Forecast is what a server would find on this machine, by the functions that servers use.
type Forecast struct {
	Engine        string `json:"engine"`
	EngineReason  string `json:"engine_reason"` // which engine, and why
	Workers       int    `json:"workers"`
	Descriptors   int    `json:"descriptors"` // that the process may open; 0: unknown
	Listening     int    `json:"listening"`   // descriptors of the listeners
	MaxConns      int    `json:"max_conns"`   // flows at any one time; 0: too few descriptors
	FlowsReason   string `json:"max_conns_reason"`
	UDPFlows      int    `json:"udp_flows"`          // at most, by local ports
	Pipes         int    `json:"pipes"`              // that all workers may own together
	PipeSize      int    `json:"pipe_size"`          // of one made now; 0: none worth having
	PipeWanted    int    `json:"pipe_wanted"`        // as asked for; 0: the engine uses none
	ReceiveBuffer int    `json:"udp_receive_buffer"` // that the kernel grants a socket; 0: unknown
	ReceiveWanted int    `json:"udp_receive_wanted"` // as asked for
}

// Predict returns what a server with these options and listeners would find. It binds nothing. Like New it raises the
// descriptor limit of the process.
func Predict(o Options, listeners []Listener) (Forecast, error) {
	kind, err := chooseEngine(o.Engine)
	if err != nil {
		return Forecast{}, err
	}
	f := Forecast{
		Engine: kind.name, EngineReason: kind.note, Workers: o.Workers, Descriptors: raiseDescriptorLimit(),
		ReceiveBuffer: grantedReceiveBuffer(), ReceiveWanted: receiveBuffer,
	}
	if f.Workers <= 0 {
		f.Workers = runtime.GOMAXPROCS(0)
	}
	counted := make(map[address]bool, len(listeners)) // listeners may share an address
	for _, l := range listeners {
		at := addressOf(l)
		if !counted[at] {
			f.Listening += kind.sockets(l, f.Workers)
		}
		counted[at] = true
	}
	share := shareLimit(f.Descriptors, o.MaxConns, consumers{listening: f.Listening, workers: f.Workers, pipes: kind.pipes})
	f.MaxConns, f.FlowsReason, f.Pipes = share.flows, share.note, share.pipes*f.Workers
	if kind.pipes > 0 {
		f.PipeSize, f.PipeWanted = probePipe()
	}
	if f.UDPFlows, _ = localPorts(share.flows); f.UDPFlows == 0 {
		f.UDPFlows = share.flows
	}
	return f, nil
}
