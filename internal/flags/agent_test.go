package flags

import (
	"strings"
	"testing"
)

func TestBackendsWithAgents(t *testing.T) {
	t.Parallel()
	c, err := parse(Words{
		Listen:  []string{"8080"},
		Backend: []string{"9001,agent=9101", "unix:///x@3,check=127.0.0.1:1,agent=[::1]:9102", "10.0.0.1"},
	}, machine)
	if err != nil {
		t.Fatal(err)
	}
	s := c.Services[0]
	if got, want := brief(c), "default: [127.0.0.1:8080] -> [127.0.0.1:9001,agent=9101 "+
		"unix:///x@3,check=127.0.0.1:1,agent=[::1]:9102 10.0.0.1]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if !s.HasAgents() || s.Scheduler.Name != "wrr" {
		t.Errorf("agents %v, scheduler %s: weights are to count", s.HasAgents(), s.Scheduler)
	}
}

func TestAgentsRefused(t *testing.T) {
	t.Parallel()
	option := func(name, value string) []Option { return []Option{{name, value}} }
	for _, tt := range []struct {
		backend string
		options []Option
		want    string
	}{
		{"9001", option("agent", "x"), `--agent x: "x" is not a whole number`},
		{"9001", option("agent", "0"), "--agent 0: 0 is out of range (1 to 65535)"},
		{"9001", option("agent", "off,interval=1s"), `"off" is not a whole number`},
		{"9001", option("agent", "9100,"), `option "" lacks its =VALUE`},
		{"9001", option("agent", "9100,interva=1s"), `unknown option "interva" (did you mean "interval"? have send, interval, timeout)`},
		{"9001", option("agent", "9100,interval=1"), `option interval: "1" lacks a unit (did you mean "1s"?)`},
		{"9001", option("agent", "9100,interval=1s,timeout=2s"), "option timeout: 2s is longer than the interval of 1s"},
		{"9001", option("agent", "9100,send="), `option send: "" is empty: leave it out`},
		{"9001", option("agent", "9100,send=a,send=b"), "option send is given twice"},
		{"9001,agent=a.b:1", nil, `backend option agent: "a.b:1" is neither a port nor IP:PORT`},
		{"unix:///x", option("agent", "9100"), "--agent: backend unix:///x has no ports (its option agent=IP:PORT says where its agent is)"},
		{"unix:///x,agent=9100", nil, "--agent: backend unix:///x has no ports"},
		{"9001", option("on-drain", "close"), `--on-drain close: unknown value "close" (have keep, fin, reset)`},
	} {
		_, err := parse(Words{Listen: []string{"8080"}, Backend: []string{tt.backend}, Options: tt.options}, machine)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s %v:\ngot  %v\nwant %s", tt.backend, tt.options, err, tt.want)
		}
	}
	// Agents detect down backends too, and change limits, so these options have an effect with them.
	for _, options := range [][]Option{
		{{"agent", "9100"}, {"health", "off"}, {"on-down", "reset"}},
		{{"agent", "9100"}, {"health", "off"}, {"panic", "50"}},
		{{"agent", "9100"}, {"health", "off"}, {"slow-start", "10s"}},
		{{"agent", "9100"}, {"queue", "10,1s"}},
		{{"agent", "9100"}, {"on-drain", "reset,10m"}},
	} {
		if _, err := parse(Words{Listen: []string{"8080"}, Backend: []string{"9001"}, Options: options}, machine); err != nil {
			t.Errorf("%v: %v", options, err)
		}
	}
}
