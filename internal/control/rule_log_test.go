package control

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"usher/proxy/rules"
)

func TestRuleLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, lines := observer.New(zap.DebugLevel)
		l := newRuleLog(zap.New(core))
		at := netip.MustParseAddrPort
		l.add(&rules.Rule{LogPrefix: "ssh: ", LogLevel: 4},
			rules.Packet{Client: at("10.0.0.1:4711"), Local: at("10.0.0.2:22"), Protocol: rules.TCP, Interface: "eth0"})
		l.add(&rules.Rule{LogLevel: 6}, rules.Packet{Client: at("[fd00::1]:1"), Local: at("[fd00::2]:53"), Protocol: rules.UDP})
		synctest.Wait()
		all := lines.TakeAll()
		want := []string{
			"ssh: IN=eth0 OUT= SRC=10.0.0.1 DST=10.0.0.2 PROTO=TCP SPT=4711 DPT=22",
			"IN= OUT= SRC=fd00::1 DST=fd00::2 PROTO=UDP SPT=1 DPT=53",
		}
		for i, level := range []any{zap.WarnLevel, zap.InfoLevel} {
			if len(all) != len(want) || all[i].Message != want[i] || all[i].Level != level {
				t.Fatalf("logged %v, want %q", all, want)
			}
		}
		if got := all[0].ContextMap(); got["client"] != "10.0.0.1:4711" || got["network"] != "tcp" || got["prefix"] != "ssh: " {
			t.Errorf("fields %v", got)
		}

		// Of many there are some, and the number of the others. A second later there are some again.
		for range 2 {
			time.Sleep(2 * time.Second)
			synctest.Wait()
			for range 3 * ruleLogBacklog {
				l.add(new(rules.Rule), rules.Packet{})
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			all = lines.TakeAll()
			last := all[len(all)-1]
			if left := last.ContextMap()["lines"]; len(all) != ruleLogRate+1 || left != uint64(3*ruleLogBacklog-ruleLogRate) {
				t.Errorf("%d lines, %v left out", len(all)-1, left)
			}
		}

		// What waits at the end is written, and what comes later is not.
		l.add(new(rules.Rule), rules.Packet{})
		l.close()
		for range 2 * ruleLogBacklog {
			l.add(new(rules.Rule), rules.Packet{})
		}
		if n := lines.Len(); n != 1 {
			t.Errorf("%d lines at the end, want 1", n)
		}
	})
}
