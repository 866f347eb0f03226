package proxy

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func TestZonesOfThisMachine(t *testing.T) {
	t.Parallel()
	links, err := net.Interfaces()
	if err != nil || len(links) == 0 {
		t.Skip("no interfaces here")
	}
	z := zoneCache{list: net.Interfaces}
	for zone, want := range map[string]uint32{"": 0, "17": 17, "no such link": 0, links[0].Name: uint32(links[0].Index)} {
		if got := z.index(zone); got != want {
			t.Errorf("zone %q: %d, want %d", zone, got, want)
		}
	}
}

// TestZonesAreReadBesideTheCaller: an event loop gets what is known at once, and soon what
// has become of it.
func TestZonesAreReadBesideTheCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const slow = time.Second
		reads, answer, failure := 0, []net.Interface{{Name: "a", Index: 1}}, error(nil)
		z := zoneCache{list: func() ([]net.Interface, error) {
			reads++
			time.Sleep(slow)
			return answer, failure
		}}
		z.prime()
		want := func(zone string, index uint32, total int) {
			t.Helper()
			begun := time.Now()
			for range 10 {
				if got := z.index(zone); got != index {
					t.Errorf("zone %s: %d, want %d", zone, got, index)
				}
			}
			if d := time.Since(begun); d > 0 {
				t.Errorf("zone %s: the caller waited %v", zone, d)
			}
			synctest.Wait()
			if reads != total {
				t.Errorf("zone %s: the table was read %d times, want %d", zone, reads, total)
			}
		}
		want("a", 1, 1)
		answer = []net.Interface{{Name: "a", Index: 3}, {Name: "b", Index: 2}}
		time.Sleep(slow)
		want("b", 0, 2) // not known: it may be new
		time.Sleep(2 * slow)
		want("b", 2, 2)
		answer, failure = nil, errors.New("no descriptors")
		time.Sleep(2 * zonesFresh)
		want("a", 3, 3)
		time.Sleep(2 * slow)
		want("a", 3, 3)
	})
}
