package doctor

import (
	"usher/internal/api"
	"usher/internal/config"
	"usher/proxy"
)

// Question is what the machine is judged for. The zero value is an usher without services.
type Question struct {
	Options  proxy.Options
	Services []*config.Service
}

// Facts are what this machine gives.
type Facts struct {
	OS        string `json:"os"`
	Arch      string `json:"arch"`
	Kernel    string `json:"kernel,omitempty"`    // its release
	Container string `json:"container,omitempty"` // docker, podman, kubernetes ...; empty: none was found
	Sandbox   string `json:"sandbox,omitempty"`   // gVisor or WSL: another kernel than it seems
	IsRoot    bool   `json:"root"`
	Program   string `json:"program,omitempty"` // path of this binary
	PageSize  int64  `json:"page_size"`

	Forecast        proxy.Forecast `json:"forecast"`
	SoftDescriptors int            `json:"descriptors_soft"` // as inherited; 0: unknown

	// Sysctls are the numbers of each that can be read.
	Sysctls       map[string][]int64 `json:"sysctls"`
	ReservedPorts int                `json:"reserved_ports"` // of the local ones

	CPUs        int   `json:"cpus"`         // online; 0: unknown
	AllowedCPUs int   `json:"cpus_allowed"` // to this process by its affinity
	Memory      int64 `json:"memory"`       // 0: unknown
	MemoryLimit int64 `json:"memory_limit"` // of the cgroup; 0: none

	IsPipeExempt bool  `json:"pipe_exempt"` // the budget of pipe pages does not bind this process
	CanGSO       *bool `json:"udp_gso,omitempty"`
	CanGRO       *bool `json:"udp_gro,omitempty"`
	CanReusePort *bool `json:"reuse_port,omitempty"`
	CanUnshare   *bool `json:"user_namespaces,omitempty"` // with a network of their own

	LowPort        int    `json:"low_port"`       // the lowest that this process may bind; 0: all
	HasLoopback    bool   `json:"loopback_range"` // any address of 127.0.0.0/8 is local
	HasClusterIPs  bool   `json:"cluster_ips"`    // 10.96.0.0/12 is
	ClusterIPRoute string `json:"-"`              // the command that makes it so
	Clock          string `json:"clock,omitempty"`
	HasTimeCounter bool   `json:"clock_tsc_available"`

	Ushers    []api.Process `json:"ushers"`
	Listeners []Listener    `json:"listeners,omitempty"` // of the question
	HasUDP    bool          `json:"-"`                   // the question has a udp service
	// MaxConnsWanted is of the question; 0: as many as fit.
	MaxConnsWanted int `json:"-"`
}

// Listener is one listener of the question.
type Listener struct {
	Service string `json:"service"`
	Address string `json:"address"`
	Port    int    `json:"port,omitempty"`  // the first one; 0: the kernel chooses, or a unix socket
	Error   string `json:"error,omitempty"` // why no socket can have its IP address
}

// sysctl returns the nth number of a sysctl.
func (f *Facts) sysctl(name string, n int) (value int64, ok bool) {
	all := f.Sysctls[name]
	if n >= len(all) {
		return 0, false
	}
	return all[n], true
}

// Level is how much a finding matters.
type Level string

// Levels, the worst last.
const (
	OK      Level = "ok"
	Unknown Level = "unknown" // this system does not tell
	Note    Level = "note"    // works, and could be better
	Low     Level = "low"     // limits soon
)

// Finding is what one item is, and means.
type Finding struct {
	Level Level  `json:"level"`
	Item  string `json:"item"`
	Is    string `json:"is"`
	Means string `json:"means"`
	// Change are the lines that change it, each by itself.
	Change []string `json:"change,omitempty"`
}
