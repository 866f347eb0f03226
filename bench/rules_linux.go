package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// runRules measures a new connection and a decision by itself in turn, so that both meet the same machine.
func runRules(ctx context.Context, c rulesConfig, o studyOptions, progress io.Writer) ([]byte, error) {
	contest, find, err := newContest(ctx, progress)
	if err != nil {
		return nil, err
	}
	defer contest.close()
	r := &rulesResults{rulesConfig: c, costs: make(map[string][]float64)}
	s := rulesRun{r, contest, find, o.slot}
	for _, enter := range []func(context.Context) error{s.enterUsher, s.enterHAProxy, s.enterNetfilter} {
		if err := enter(ctx); err != nil {
			return nil, err
		}
	}
	err = contest.rounds(ctx, o.rounds, func(name string, t turn) {
		r.costs[name] = append(r.costs[name], t.cost)
	})
	if err != nil {
		return nil, err
	}
	subjects, err := decisionSubjects(c.lists)
	if err != nil {
		return nil, err
	}
	if r.times, err = newStopwatch(o).measure(ctx, subjects, io.Discard); err != nil {
		return nil, err
	}
	return r.text(o), nil
}

// rulesRun has the contenders enter.
type rulesRun struct {
	*rulesResults
	*contest
	find findOptions
	slot time.Duration
}

// forms are the lists that are measured: none, each size, and the largest one in all forms.
func (r *rulesRun) forms(by string) []ruleKey {
	return append([]ruleKey{r.without(by)}, r.columns(by)...)
}

func (r *rulesRun) enterUsher(ctx context.Context) error {
	p, err := findUsher(ctx, r.find, "epoll")
	if err != nil {
		return err
	}
	for i, k := range r.forms(byUsher) {
		var more []string
		if k.rules > 0 {
			file, err := writeConfig(r.dir, fmt.Sprintf("rules-%d.yaml", i), ruleFile(ruleLines(k.rules, k.form, r.chains)))
			if err != nil {
				return err
			}
			more = []string{"--config", file}
		}
		if _, err := r.enter(ctx, k.String(), p, "crr", r.config("crr", r.slot), more...); err != nil {
			return err
		}
	}
	return nil
}

func (r *rulesRun) enterHAProxy(ctx context.Context) error {
	p, err := findHAProxy(ctx, r.find, "splice-auto")
	if err != nil {
		r.notes = append(r.notes, "HAProxy: "+err.Error())
		return nil
	}
	r.notes = append(r.notes, "HAProxy: "+p.version)
	enter := func(k ruleKey, lines []string) error {
		_, err := r.enter(ctx, k.String(), p, "crr", r.config("crr", r.slot), lines...)
		return err
	}
	if err := enter(ruleKey{byFile, 0, noneFits}, nil); err != nil {
		return err
	}
	for _, n := range r.sizes {
		file, err := writeConfig(r.dir, fmt.Sprintf("acl-%d", n), aclFile(n))
		if err != nil {
			return err
		}
		if err := enter(ruleKey{byFile, n, noneFits}, []string{"tcp-request connection reject if { src -f " + file + " }"}); err != nil {
			return err
		}
		if err := enter(ruleKey{byLines, n, noneFits}, aclLines(n)); err != nil {
			return err
		}
	}
	return nil
}

// enterNetfilter adds what iptables of either kind does, where it may.
func (r *rulesRun) enterNetfilter(ctx context.Context) error {
	for by, program := range map[string]string{byNFT: "iptables-nft", byLegacy: "iptables-legacy"} {
		if out, err := exec.CommandContext(ctx, program, "--version").CombinedOutput(); err == nil {
			r.notes = append(r.notes, fmt.Sprintf("%s: %s", by, strings.TrimSpace(string(out))))
		}
		for _, k := range r.forms(by) {
			n, err := newNetfilter(program+"-restore", restoreText(ruleLines(k.rules, k.form, r.chains)), r.loadCPU)
			if err != nil {
				r.notes = append(r.notes, fmt.Sprintf("%s: %s", by, err))
				break
			}
			r.contenders = append(r.contenders, contender{name: k.String(), close: n.close, turn: func() (turn, error) {
				cost, err := n.turn(r.slot)
				return turn{measurement: measurement{cost: cost}}, err
			}})
		}
	}
	return nil
}
