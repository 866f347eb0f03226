package health_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"usher/health"
)

func TestParseAgentReport(t *testing.T) {
	t.Parallel()
	weight := func(n int) health.AgentReport {
		return health.AgentReport{Weight: health.OptionalInt{IsSet: true, Value: n}}
	}
	down := func(reason string) health.AgentReport {
		return health.AgentReport{Oper: health.OperDown, Reason: reason}
	}
	for _, tt := range []struct {
		line string
		want health.AgentReport
	}{
		{"", health.AgentReport{}},
		{" \t, ", health.AgentReport{}},
		{"75%", weight(75)},
		{"0%", weight(0)},
		{"1000%", weight(1000)},
		{"1001%", weight(1000)},
		{"99999999999999999999%", weight(1000)},
		{"-1%", health.AgentReport{UnknownWord: "-1%"}},
		{"+1%", health.AgentReport{UnknownWord: "+1%"}},
		{"%", health.AgentReport{UnknownWord: "%"}},
		{"75", health.AgentReport{UnknownWord: "75"}},
		{"maxconn:30", health.AgentReport{Max: health.OptionalInt{IsSet: true, Value: 30}}},
		{"maxconn:0", health.AgentReport{Max: health.OptionalInt{IsSet: true}}},
		{"maxconn:99999999999999999999", health.AgentReport{Max: health.OptionalInt{IsSet: true, Value: 1 << 30}}},
		{"maxconn:", health.AgentReport{UnknownWord: "maxconn:"}},
		{"maxconn: 30", health.AgentReport{UnknownWord: "maxconn:"}},
		{"READY", health.AgentReport{Admin: health.AdminReady}},
		{"drain", health.AgentReport{Admin: health.AdminDrain}},
		{"maint", health.AgentReport{Admin: health.AdminMaint}},
		{"drain ready", health.AgentReport{Admin: health.AdminReady}},
		{"up", health.AgentReport{Oper: health.OperUp}},
		{"down", down("")},
		{"stopped", down("")},
		{"fail", down("")},
		{"failed", down("")},
		{"down#disk full, 100%", down("disk full, 100%")},
		{"down # \x1b[31mred\xff", down("[31mred?")},
		{"down#" + strings.Repeat("x", 1000), down(strings.Repeat("x", 120))},
		{"up #fine", health.AgentReport{Oper: health.OperUp}},
		{"#drain", health.AgentReport{}},
		{"up,ready\t50% maxconn:7", health.AgentReport{
			Weight: health.OptionalInt{IsSet: true, Value: 50}, Max: health.OptionalInt{IsSet: true, Value: 7},
			Admin: health.AdminReady, Oper: health.OperUp,
		}},
		{"ready 100 of 100", health.AgentReport{Admin: health.AdminReady, UnknownWord: "100"}},
	} {
		if got := health.ParseAgentReport(tt.line); got != tt.want {
			t.Errorf("%q: %+v, want %+v", tt.line, got, tt.want)
		}
	}
}

func FuzzParseAgentReport(f *testing.F) {
	f.Add("up ready 75% maxconn:3")
	f.Add("down#\x00\xff")
	f.Fuzz(func(t *testing.T, line string) {
		a := health.ParseAgentReport(line)
		for _, text := range []string{a.UnknownWord, a.Reason} {
			if len(text) > 400 || !utf8.ValidString(text) || strings.ContainsAny(text, "\r\n\x1b\x00") {
				t.Errorf("%q: %q is not fit for a log", line, text)
			}
		}
		if a.Weight.Value < 0 || a.Weight.Value > 1000 || a.Max.Value < 0 {
			t.Errorf("%q: %+v", line, a)
		}
	})
}

func TestAgentReportMerge(t *testing.T) {
	t.Parallel()
	parse := health.ParseAgentReport
	for _, tt := range []struct{ before, now, want string }{
		{"50%", "drain", "50% drain"},
		{"50% drain", "ready 20%", "20% ready"},
		{"down#disk", "10%", "down 10%#disk"},
		{"down#disk", "down", "down"},
		{"down#disk", "up", "up"},
		{"maxconn:5", "maxconn:0", "maxconn:0"},
		{"sideways", "up", "sideways up"},
		{"sideways", "up backwards", "sideways up"},
	} {
		if got := parse(tt.now).Merge(parse(tt.before)); got != parse(tt.want) {
			t.Errorf("%q after %q: %+v, want %q", tt.now, tt.before, got, tt.want)
		}
	}
}

// ask asks an agent once.
func ask(t *testing.T, send string, timeout time.Duration, agent func(net.Conn)) ([]health.AgentReport, error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveConns(t, ln, agent)
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	var got []health.AgentReport
	target := health.Target{Name: "b", Network: "tcp", Address: ln.Addr().String()}
	err = health.NewAgent(send, func(from health.Target, a health.AgentReport) {
		if from != target {
			t.Errorf("report of %v", from)
		}
		got = append(got, a)
	}).Check(ctx, target)
	return got, err
}

func TestAgentAnswers(t *testing.T) {
	t.Parallel()
	drain := health.AgentReport{Admin: health.AdminDrain}
	for name, agent := range map[string]func(net.Conn){
		"line":            func(c net.Conn) { _, _ = io.WriteString(c, "drain\n") },
		"line of network": func(c net.Conn) { _, _ = io.WriteString(c, "drain\r\n"); hear(c) },
		"no end of line":  func(c net.Conn) { _, _ = io.WriteString(c, "drain") },
		"more lines":      func(c net.Conn) { _, _ = io.WriteString(c, "drain\nup\n"); hear(c) },
		"in pieces": func(c net.Conn) {
			for _, b := range []byte("drain\n") {
				_, _ = c.Write([]byte{b})
				time.Sleep(time.Millisecond)
			}
		},
		"asked": func(c net.Conn) {
			b := make([]byte, 5)
			if _, err := io.ReadFull(c, b); err == nil && string(b) == "state" {
				_, _ = io.WriteString(c, "drain\n")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			send := ""
			if name == "asked" {
				send = "state"
			}
			got, err := ask(t, send, time.Minute, agent)
			if err != nil || len(got) != 1 || got[0] != drain {
				t.Errorf("reports %+v, %v", got, err)
			}
		})
	}
}

// A check without an answer fails and reports nothing.
func TestAgentFails(t *testing.T) {
	t.Parallel()
	for _, server := range badServers {
		if strings.Contains(server.name, "garbage") {
			continue // a line of unknown words
		}
		t.Run(server.name, func(t *testing.T) {
			t.Parallel()
			got, err := ask(t, "", 300*time.Millisecond, server.handle)
			if err == nil || len(got) > 0 {
				t.Errorf("reports %+v, %v", got, err)
			}
		})
	}
	got, err := ask(t, "", time.Minute, func(c net.Conn) { flood(c, []byte("up ")) })
	if err == nil || !strings.Contains(err.Error(), "a line of more than 1024 bytes") || len(got) > 0 {
		t.Errorf("endless line: reports %+v, %v", got, err)
	}
	err = health.NewAgent("", func(health.Target, health.AgentReport) { t.Error("an unexpected report") }).Check(t.Context(), gone)
	if err == nil || errors.Is(err, health.ErrInconclusive) {
		t.Errorf("refused: %v", err)
	}
}
