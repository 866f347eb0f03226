package proxy

import (
	"net"
	"strconv"
	"sync/atomic"
	"time"
)

// zones knows the network interfaces by name, which zones of link-local addresses are.
var zones = zoneCache{list: net.Interfaces}

// zonesFresh is how long the interfaces are taken to be as they were.
const zonesFresh = 10 * time.Second

// zoneCache is a copy of the system's table of interfaces. Event loops look things up in it
// and never wait: to read the table takes a socket and some calls.
type zoneCache struct {
	list    func() ([]net.Interface, error)
	table   atomic.Pointer[zoneTable]
	reading atomic.Bool
}

type zoneTable struct {
	indexes map[string]uint32
	read    time.Time
}

// prime reads the table if nobody has yet.
func (z *zoneCache) prime() {
	if z.table.Load() == nil {
		z.read()
	}
}

// index returns the number of a zone's interface; zero is none. What is not known, or was
// read a while ago, is read anew beside the caller, who gets what was known before.
func (z *zoneCache) index(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n)
	}
	z.prime()
	t := z.table.Load()
	n, known := t.indexes[zone]
	age := time.Since(t.read)
	if (age > zonesFresh || !known && age > zonesFresh/10) && z.reading.CompareAndSwap(false, true) {
		go func() {
			z.read()
			z.reading.Store(false)
		}()
	}
	return n
}

// read takes a new copy. If that fails, what was known stays.
func (z *zoneCache) read() {
	t := &zoneTable{indexes: make(map[string]uint32), read: time.Now()}
	interfaces, err := z.list()
	if old := z.table.Load(); err != nil && old != nil {
		t.indexes = old.indexes
	}
	for _, i := range interfaces {
		t.indexes[i.Name] = uint32(i.Index)
	}
	z.table.Store(t)
}
