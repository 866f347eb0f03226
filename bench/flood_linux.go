package main

import (
	"context"
	"io"
	"strings"
	"time"

	"usher/bench/load"
)

// flooded marks the turns of a contender with the flood.
const flooded = ", flooded"

// runFlood measures allowed clients beside denied ones.
func runFlood(ctx context.Context, o studyOptions, progress io.Writer) ([]byte, error) {
	c, find, err := newContest(ctx, progress)
	if err != nil {
		return nil, err
	}
	defer c.close()
	r := &floodResults{calm: make(map[string]*floodFigures), busy: make(map[string]*floodFigures)}
	enter := func(p proxy, by, how string, more ...string) error {
		name := floodName(by, how)
		g, err := c.enter(ctx, name, p, "crr", c.floodConfig(o.slot), more...)
		if err != nil {
			return err
		}
		x := &c.contenders[len(c.contenders)-1]
		run := x.turn
		turns := func(isFlooded bool) func() (turn, error) {
			return func() (turn, error) {
				g.Flood(isFlooded)
				return run()
			}
		}
		x.turn = turns(false)
		c.contenders = append(c.contenders, contender{name: name + flooded, turn: turns(true), close: func() {}})
		r.names = append(r.names, name)
		r.calm[name], r.busy[name] = new(floodFigures), new(floodFigures)
		return nil
	}
	if err := enterFlooded(ctx, find, r, enter); err != nil {
		return nil, err
	}
	err = c.rounds(ctx, o.rounds, func(name string, t turn) {
		if name, isFlooded := strings.CutSuffix(name, flooded); isFlooded {
			r.busy[name].note(t)
		} else {
			r.calm[name].note(t)
		}
	})
	if err != nil {
		return nil, err
	}
	return r.text(o), nil
}

// enterFlooded has the proxies enter, once with each way to refuse.
func enterFlooded(ctx context.Context, find findOptions, r *floodResults, enter func(p proxy, by, how string, more ...string) error) error {
	for _, engine := range []string{"epoll", "portable"} {
		p, err := findUsher(ctx, find, engine)
		if err != nil {
			return err
		}
		by := map[string]string{"epoll": "usher", "portable": "usher-portable"}[engine]
		if err := enter(p, by, rejects, "--rule", "-s "+floodPrefix+" -j REJECT"); err != nil {
			return err
		}
		if err := enter(p, by, drops, "--rule", "-s "+floodPrefix+" -j DROP"); err != nil {
			return err
		}
	}
	p, err := findHAProxy(ctx, find, "splice-auto")
	if err != nil {
		r.notes = append(r.notes, "HAProxy: "+err.Error())
		return nil
	}
	r.notes = append(r.notes, "HAProxy: "+p.version)
	if err := enter(p, "haproxy", rejects, "tcp-request connection reject if { src "+floodPrefix+" }"); err != nil {
		return err
	}
	return enter(p, "haproxy", drops, "tcp-request connection silent-drop if { src "+floodPrefix+" }")
}

func (c *contest) floodConfig(slot time.Duration) load.Config {
	config := c.config("crr", slot)
	config.Conns, config.Pace, config.Denied = floodWaiting, floodPace, floodSources
	return config
}
