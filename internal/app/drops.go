package app

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"usher/proxy"
)

// dropsEvery is how often dropped datagrams are told of, at most.
const dropsEvery = 10 * time.Second

// dropReasons are the reasons for which a datagram may be dropped.
var dropReasons = [...]proxy.Drop{proxy.DropRefused, proxy.DropFull, proxy.DropOversized, proxy.DropKernel}

// drops tells of the datagrams that services had to drop, of sockets that were not to
// be had, and of those that had to do without segmentation offload: from time to time
// while there are such, and once more at the end.
type drops struct {
	services []*proxy.Service
	log      *zap.Logger
	told     map[*proxy.Service][len(dropReasons)]uint64
	fellBack map[*proxy.Service]uint64
	starved  map[*proxy.Service]uint64
	done     chan struct{}
	teller   sync.WaitGroup
}

func newDrops(services []*proxy.Service, log *zap.Logger) *drops {
	d := &drops{
		services: services, log: log,
		told:     make(map[*proxy.Service][len(dropReasons)]uint64),
		fellBack: make(map[*proxy.Service]uint64),
		starved:  make(map[*proxy.Service]uint64),
		done:     make(chan struct{}),
	}
	d.teller.Go(d.run)
	return d
}

// close ends it. A nil *drops has nothing to end.
func (d *drops) close() {
	if d != nil {
		close(d.done)
		d.teller.Wait()
	}
}

func (d *drops) run() {
	t := time.NewTicker(dropsEvery)
	defer t.Stop()
	for {
		select {
		case <-d.done:
			d.tell()
			return
		case <-t.C:
			d.tell()
		}
	}
}

// tell logs what is new of each service since the last time.
func (d *drops) tell() {
	for _, s := range d.services {
		var now [len(dropReasons)]uint64
		fields := []zap.Field{zap.String("service", s.Name)}
		for i, reason := range dropReasons {
			now[i] = s.Dropped(reason)
			if n := now[i] - d.told[s][i]; n > 0 {
				fields = append(fields, zap.Uint64(reason.String(), n))
			}
		}
		d.told[s] = now
		if len(fields) > 1 {
			d.log.Warn("datagrams dropped", fields...)
		}
		if n := s.Starved(); n > d.starved[s] {
			why := "accepting paused for want of descriptors"
			if s.IsUDP() {
				why = "no socket for new flows: out of descriptors, memory or local ports"
			}
			d.log.Warn(why, zap.String("service", s.Name), zap.Uint64("times", n-d.starved[s]))
			d.starved[s] = n
		}
		if n := s.FellBack(); n > d.fellBack[s] {
			d.log.Info("sockets without segmentation offload", zap.String("service", s.Name), zap.Uint64("more", n-d.fellBack[s]))
			d.fellBack[s] = n
		}
	}
}
