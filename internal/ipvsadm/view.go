package ipvsadm

import "net/netip"

// View is what runs, as a listing shows it. It is the answer to GET /v1/ipvs.
type View struct {
	Timeouts Timeouts      `json:"timeouts"`
	Services []ServiceView `json:"services"`
}

// ServiceView is a service with its counters.
type ServiceView struct {
	Protocol     Protocol          `json:"protocol,omitempty"`
	Addr         netip.AddrPort    `json:"addr,omitzero"`
	Last         uint16            `json:"last,omitempty"` // of a range of ports
	Mark         uint32            `json:"mark,omitempty"`
	IPv6         bool              `json:"ipv6,omitempty"` // of a mark
	Scheduler    string            `json:"scheduler"`
	Flags        []string          `json:"flags,omitempty"`
	OnePacket    bool              `json:"ops,omitempty"`
	Persist      uint32            `json:"persist,omitempty"` // seconds
	Bits         int               `json:"bits,omitempty"`    // of a client's address that persistence looks at
	Engine       string            `json:"pe,omitempty"`
	Stats        Stats             `json:"stats"`
	Rates        Rates             `json:"rates"`
	Destinations []DestinationView `json:"destinations"` // newest first
}

// DestinationView is a real server with its counters.
type DestinationView struct {
	Addr        netip.AddrPort `json:"addr"`
	Method      Method         `json:"method,omitempty"`
	TunnelType  TunnelType     `json:"tunnel_type,omitempty"`
	TunnelPort  uint16         `json:"tunnel_port,omitempty"`
	TunnelFlags uint16         `json:"tunnel_flags,omitempty"`
	Weight      int32          `json:"weight"`
	Upper       uint32         `json:"upper,omitempty"`
	Lower       uint32         `json:"lower,omitempty"`
	Active      uint32         `json:"active,omitempty"`
	Inactive    uint32         `json:"inactive,omitempty"`
	Persistent  uint32         `json:"persistent,omitempty"` // templates
	Stats       Stats          `json:"stats,omitzero"`
	Rates       Rates          `json:"rates,omitzero"`
}

// Stats are totals.
type Stats struct {
	Conns    uint64 `json:"conns,omitempty"`
	InPkts   uint64 `json:"inpkts,omitempty"`
	OutPkts  uint64 `json:"outpkts,omitempty"`
	InBytes  uint64 `json:"inbytes,omitempty"`
	OutBytes uint64 `json:"outbytes,omitempty"`
}

// Rates are smoothed, a second.
type Rates struct {
	CPS    uint64 `json:"cps,omitempty"`
	InPPS  uint64 `json:"inpps,omitempty"`
	OutPPS uint64 `json:"outpps,omitempty"`
	InBPS  uint64 `json:"inbps,omitempty"`
	OutBPS uint64 `json:"outbps,omitempty"`
}

// Connection is an entry of the connection table, or a template of persistence. GET /v1/ipvs/connections writes one a
// line.
type Connection struct {
	Protocol    Protocol       `json:"protocol"` // 0: a template of a mark
	Expires     uint32         `json:"expires"`  // seconds
	State       string         `json:"state"`    // NONE ... TIME_WAIT, UDP, ASSURED
	Client      netip.AddrPort `json:"client"`
	Virtual     netip.AddrPort `json:"virtual"`
	Destination netip.AddrPort `json:"destination"`
	Engine      string         `json:"pe,omitempty"`
	EngineData  string         `json:"pe_data,omitempty"`
}
