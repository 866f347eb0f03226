package main

import (
	"context"
	"io"
)

// runDoor compares usher with what it was before, and with what it is with rules and limits.
func runDoor(ctx context.Context, o studyOptions, progress io.Writer) ([]byte, error) {
	c, find, err := newContest(ctx, progress)
	if err != nil {
		return nil, err
	}
	defer c.close()
	r := &doorResults{costs: make(map[string][]float64)}
	now, err := findUsher(ctx, find, "epoll")
	if err != nil {
		return nil, err
	}
	file, err := writeConfig(c.dir, "rules.yaml", ruleFile(ruleLines(doorRules, noneFits, 0)))
	if err != nil {
		return nil, err
	}
	for _, work := range doorWorks {
		w := c.workload[work]
		r.works = append(r.works, w)
		if o.before != "" {
			find.usher = o.before
			before, err := findUsher(ctx, find, "epoll")
			if err != nil {
				return nil, err
			}
			r.notes = []string{earlier + ": " + before.version}
			if _, err := c.enter(ctx, doorName(work, earlier), before, work, c.config(work, o.slot)); err != nil {
				return nil, err
			}
		}
		if _, err := c.enter(ctx, doorName(work, unguarded), now, work, c.config(work, o.slot)); err != nil {
			return nil, err
		}
		more := append(doorLimits(w.network()), "--config", file)
		if _, err := c.enter(ctx, doorName(work, guarded), now, work, c.config(work, o.slot), more...); err != nil {
			return nil, err
		}
	}
	err = c.rounds(ctx, o.rounds, func(name string, t turn) { r.costs[name] = append(r.costs[name], t.cost) })
	if err != nil {
		return nil, err
	}
	return r.text(o), nil
}
