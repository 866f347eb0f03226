package proxy

import (
	"iter"
	"net/netip"
	"time"

	"usher/balancer"
	"usher/proxy/flow"
)

// stateVersion is the version of the format of a State. A field may be added without a new
// one: an older reader refuses a state that makes use of it. What changes the meaning of
// what is there needs a new one, numbers of outcomes, phases and sides included.
const stateVersion = 1

// State is all that a suspended server knows, as plain data: [Restore] makes a server of it
// that goes on, in another process image too. Its descriptors are those of the process by
// number. It is valid until Resume.
type State struct {
	Version   int           `cbor:"1,keyasint"`
	Clock     time.Duration `cbor:"2,keyasint"` // of the data path, when it was suspended
	Monotonic time.Duration `cbor:"3,keyasint"` // CLOCK_MONOTONIC then

	Services []flow.ServiceState  `cbor:"4,keyasint"` // in their order, and behind them those that are gone but for flows
	Settings []flow.SettingsState `cbor:"5,keyasint"`
	Pools    []balancer.PoolState `cbor:"6,keyasint"` // their backends are numbered through
	Bindings []bindingState       `cbor:"7,keyasint"`
	Requests []requestState       `cbor:"8,keyasint"`
	Clients  []clientState        `cbor:"9,keyasint"`
	Workers  []workerState        `cbor:"10,keyasint"`
}

// bindingState is a binding. One that is gone has no sockets but for those of sessions, which
// are among the listeners of the workers.
type bindingState struct {
	Flow   flow.BindingState `cbor:"1,keyasint"`
	At     Listener          `cbor:"2,keyasint"`
	Local  netip.AddrPort    `cbor:"3,keyasint"`
	Splits bool              `cbor:"4,keyasint,omitempty"`
	File   bool              `cbor:"5,keyasint,omitempty"` // of a unix listener: it has its file
	Lost   bool              `cbor:"9,keyasint,omitempty"` // it has none any more
	Shared bool              `cbor:"6,keyasint,omitempty"`
	FDs    []int32           `cbor:"7,keyasint,omitempty"` // of each worker, or one for all; none of udp
	Slots  []int32           `cbor:"8,keyasint,omitempty"` // of udp: where each worker has its socket
}

// noSlot is in place of the slot of a worker without a socket.
const noSlot = -1

// requestState is a listener whose port the kernel has chosen.
type requestState struct {
	Service flow.Ref `cbor:"1,keyasint"`
	At      Listener `cbor:"2,keyasint"`
	Nth     int      `cbor:"3,keyasint,omitempty"`
	Binding flow.Ref `cbor:"4,keyasint"`
	// Port is that of a listener which is closed, and has no binding.
	Port uint16 `cbor:"5,keyasint,omitempty"`
}

// clientState is a client that has a backend.
type clientState struct {
	Client  netip.Prefix  `cbor:"1,keyasint"`
	Service flow.Ref      `cbor:"2,keyasint"`
	Backend flow.Ref      `cbor:"3,keyasint"`
	Created time.Duration `cbor:"4,keyasint,omitempty"`
	Expires time.Duration `cbor:"5,keyasint,omitempty"`
}

// workerState is what an event loop has.
type workerState struct {
	Conns     []connState        `cbor:"1,keyasint,omitempty"`
	Sessions  []sessionState     `cbor:"2,keyasint,omitempty"`
	Listeners []udpListenerState `cbor:"3,keyasint,omitempty"` // by slot
	Busy      time.Duration      `cbor:"4,keyasint,omitempty"`
}

// connState is a conn.
type connState struct {
	Flow flow.FlowState `cbor:"1,keyasint"`
	Half [2]halfState   `cbor:"2,keyasint"`
}

// halfState is a half.
type halfState struct {
	FD       int32      `cbor:"1,keyasint"`
	Readable bool       `cbor:"2,keyasint,omitempty"`
	Writable bool       `cbor:"3,keyasint,omitempty"`
	Probing  bool       `cbor:"4,keyasint,omitempty"`
	Watched  bool       `cbor:"5,keyasint,omitempty"`
	Roomy    bool       `cbor:"6,keyasint,omitempty"`
	Probed   bool       `cbor:"7,keyasint,omitempty"`
	Ended    bool       `cbor:"8,keyasint,omitempty"`
	Broken   Outcome    `cbor:"9,keyasint,omitempty"`
	Splicing bool       `cbor:"10,keyasint,omitempty"`
	NoSplice bool       `cbor:"11,keyasint,omitempty"`
	Bulk     bool       `cbor:"12,keyasint,omitempty"`
	Full     uint8      `cbor:"13,keyasint,omitempty"`
	Small    uint8      `cbor:"14,keyasint,omitempty"`
	Pipe     *pipeState `cbor:"15,keyasint,omitempty"`
	Rest     []byte     `cbor:"16,keyasint,omitempty"`
	Preface  uint16     `cbor:"17,keyasint,omitempty"`
}

// pipeState is a pipe with bytes inside.
type pipeState struct {
	Read  int32 `cbor:"1,keyasint"`
	Write int32 `cbor:"2,keyasint"`
	Held  int   `cbor:"3,keyasint"`
}

// sessionState is a session with its socket.
type sessionState struct {
	Flow     flow.SessionState `cbor:"1,keyasint"`
	FD       int32             `cbor:"2,keyasint"`
	GSO      bool              `cbor:"3,keyasint,omitempty"`
	Drops    uint32            `cbor:"4,keyasint,omitempty"`
	Listener int32             `cbor:"5,keyasint"` // a slot; -1: none
	Front    int32             `cbor:"6,keyasint"` // a slot; -1: none
	Name     []byte            `cbor:"7,keyasint"` // the client's address as the kernel takes it
}

// udpListenerState is a udpListener.
type udpListenerState struct {
	FD        int32          `cbor:"1,keyasint"` // -1: the slot is free
	Binding   flow.Ref       `cbor:"2,keyasint,omitempty"`
	Local     netip.AddrPort `cbor:"3,keyasint"`
	Wildcard  bool           `cbor:"4,keyasint,omitempty"`
	V6        bool           `cbor:"5,keyasint,omitempty"`
	GSO       bool           `cbor:"6,keyasint,omitempty"`
	Merges    bool           `cbor:"7,keyasint,omitempty"`
	Drops     uint32         `cbor:"8,keyasint,omitempty"`
	Replies   int32          `cbor:"9,keyasint,omitempty"`
	Leaving   bool           `cbor:"10,keyasint,omitempty"`
	Left      bool           `cbor:"11,keyasint,omitempty"`
	Inherited bool           `cbor:"12,keyasint,omitempty"`
}

// Descriptors yields the descriptors that a successor needs. They stay open, and keep their
// numbers, in a process image that takes over: its caller has them survive exec.
func (st *State) Descriptors() iter.Seq[int] {
	return func(yield func(int) bool) {
		st.descriptors(func(fd int32, _ descriptorKind) bool { return yield(int(fd)) })
	}
}

// descriptorKind is what a descriptor has to be.
type descriptorKind uint8

const (
	streamListener descriptorKind = iota
	streamSocket
	datagramSocket
	pipeReader
	pipeWriter
)

// descriptors calls yield for each descriptor until that returns false.
func (st *State) descriptors(yield func(int32, descriptorKind) bool) {
	for i := range st.Bindings {
		for _, fd := range st.Bindings[i].FDs {
			if !yield(fd, streamListener) {
				return
			}
		}
	}
	for i := range st.Workers {
		if !st.Workers[i].descriptors(yield) {
			return
		}
	}
}

func (w *workerState) descriptors(yield func(int32, descriptorKind) bool) bool {
	for i := range w.Listeners {
		if fd := w.Listeners[i].FD; fd >= 0 && !yield(fd, datagramSocket) {
			return false
		}
	}
	for i := range w.Conns {
		for s := range w.Conns[i].Half {
			h := &w.Conns[i].Half[s]
			if h.FD >= 0 && !yield(h.FD, streamSocket) {
				return false
			}
			if p := h.Pipe; p != nil && (!yield(p.Read, pipeReader) || !yield(p.Write, pipeWriter)) {
				return false
			}
		}
	}
	for i := range w.Sessions {
		if fd := w.Sessions[i].FD; fd >= 0 && !yield(fd, datagramSocket) {
			return false
		}
	}
	return true
}
