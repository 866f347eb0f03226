package conntrack

import (
	"math"
	"net/netip"
	"time"
	"unsafe"
)

// Linger is how much longer a template is kept each time that its timeout has
// passed while flows under it are alive, as in IPVS.
const Linger = 60 * time.Second

// TemplateBytes is what a template costs on a 64-bit system: 64 bytes, 16 in the
// timer wheel, 12 for its key, and 16 for its places among the idle templates and
// among those of its backend. Templates come in chunks of 512, and each of the
// shards of an Affinity has a chunk of its own.
const TemplateBytes = 108

// Templates that outgrow TemplateBytes do not compile.
const _ = TemplateBytes - unsafe.Sizeof(template[int, int]{}) - unsafe.Sizeof(timer{}) - indexBytes - 2*unsafe.Sizeof(neighbours{})

// Persistence is how the flows of a service are kept together.
type Persistence struct {
	// Timeout is how long a client keeps its backend after its last new flow. With
	// zero or less it does so while it has flows, in steps of [Linger].
	Timeout time.Duration
	// Mask groups clients: those whose addresses it makes equal are one client.
	Mask Mask
}

// until returns when a template ends that was refreshed at now.
func (p Persistence) until(now time.Duration) time.Duration {
	return now + min(max(p.Timeout, 0), math.MaxInt64-max(now, 0))
}

// Hold is a flow's part in the template that it is under. The zero Hold has none.
// It belongs to the flow, and is used by one goroutine at a time.
//
// A template that is forgotten takes its holds with it: they go on to exist, and
// mean nothing.
type Hold struct {
	shard uint32
	id    ID
	life  uint32 // of the slot; zero: no template
}

// Template is a copy of a template: the backend that new flows of a client are
// given as long as it is there.
type Template[S, B any] struct {
	Client  netip.Prefix
	Service *S
	Backend *B
	Flows   int           // alive under it
	Created time.Duration // when the client was first given a backend
	// Expires is when it ends without another flow; if Flows are alive then, it is
	// kept for Linger more.
	Expires time.Duration
}

// stickyKey names a template. Addresses of several masks do not meet.
type stickyKey[S any] struct {
	service *S
	client  network
}

// template is a slot of a shard, whose lock guards it.
//
// While flows are alive, expires may lie in the past: settle makes good for the
// times that it should have been put off.
type template[S, B any] struct {
	key     stickyKey[S]
	backend *B // nil: the slot is free
	created time.Duration
	expires time.Duration
	life    uint32 // counts the templates that the slot has held
	flows   uint32 // alive; of a free slot: the ID of the next free one, or none
}

// settled returns when the template ends, as seen at now.
func (t *template[S, B]) settled(now time.Duration) time.Duration {
	if t.flows == 0 || now < t.expires {
		return t.expires
	}
	// In whole steps from where it was, as if each had been seen when it was over.
	late := min((now-t.expires)/Linger*Linger, math.MaxInt64-Linger-t.expires)
	return t.expires + late + Linger
}

// over reports whether the template has ended, whether or not its slot was taken back.
func (t *template[S, B]) over(now time.Duration) bool { return t.flows == 0 && now >= t.expires }
