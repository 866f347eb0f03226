package main

import (
	"context"
	"io"

	"usher/balancer"
)

// schedulersConfig says how large the study is.
type schedulersConfig struct {
	sizes      []int // numbers of backends to choose among
	baseSize   int   // of them, where the scheduler of the base counts as 1
	tableSizes []int // numbers of backends in tables
	stallAmong int   // backends, whose weights change while choices are timed
	schedulers []balancer.Algorithm
	tableForms []form
}

var schedulerStudy = schedulersConfig{
	sizes:      []int{1, 10, 100, 1000, 10_000},
	baseSize:   10,
	tableSizes: []int{10, 100, 1000, 10_000},
	stallAmong: 1000,
	schedulers: balancer.Algorithms(),
	tableForms: tableForms,
}

// base is the scheduler whose choice counts as 1.
const base = "rr"

// The names of the scans among those of schedulers.
const (
	scanName   = "scan"
	packedName = "scan, packed"
)

// schedulersResults are the results of the study.
type schedulersResults struct {
	schedulersConfig
	choices timings // of a choice and its release
	builds  timings // of a change of a weight, by the form's name
	bytes   map[timingKey]float64
	stalls  []stall
}

func runSchedulers(ctx context.Context, c schedulersConfig, o studyOptions, progress io.Writer) ([]byte, error) {
	r := schedulersResults{schedulersConfig: c, bytes: make(map[timingKey]float64)}
	// First, while the heap is empty otherwise.
	for _, f := range c.tableForms {
		for _, n := range c.tableSizes {
			bytes, err := tableBytes(f, n)
			if err != nil {
				return nil, err
			}
			r.bytes[timingKey{f.name(), n}] = bytes
		}
	}
	subjects, err := c.buildSubjects()
	if err != nil {
		return nil, err
	}
	watch := newStopwatch(o)
	if r.builds, err = watch.measure(ctx, subjects, progress); err != nil {
		return nil, err
	}
	if r.stalls, err = measureStalls(ctx, c.stallAmong, o, progress); err != nil {
		return nil, err
	}
	if subjects, err = c.choiceSubjects(); err != nil {
		return nil, err
	}
	if r.choices, err = watch.measure(ctx, subjects, progress); err != nil {
		return nil, err
	}
	return r.text(o), nil
}

func (c *schedulersConfig) buildSubjects() ([]subject, error) {
	var subjects []subject
	for _, f := range c.tableForms {
		for _, n := range c.tableSizes {
			s, err := buildSubject(f, n)
			if err != nil {
				return nil, err
			}
			subjects = append(subjects, s)
		}
	}
	return subjects, nil
}

// choiceSubjects are all schedulers, and the scans, among all numbers of backends.
func (c *schedulersConfig) choiceSubjects() ([]subject, error) {
	var subjects []subject
	add := func(name, scheduler string, n int, traffic func(*balancer.Pool) (*traffic, error)) error {
		specs := specsOf(n, 1)
		for i := range specs {
			specs[i].Weight = heldEach + 1 + i%3 // ovf has no room for more flows than its weights
		}
		p, err := form{scheduler: scheduler}.pool(specs)
		if err != nil {
			return err
		}
		t, err := traffic(p)
		if err != nil {
			return err
		}
		subjects = append(subjects, subject{name, n, t.run})
		return nil
	}
	for _, n := range c.sizes {
		for _, a := range c.schedulers {
			if err := add(a.Name, a.Name, n, poolTraffic); err != nil {
				return nil, err
			}
		}
		if err := add(scanName, base, n, scanTraffic); err != nil {
			return nil, err
		}
		if err := add(packedName, base, n, packedTraffic); err != nil {
			return nil, err
		}
	}
	return subjects, nil
}
