package health_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/quick"
	"time"
	"unicode/utf8"

	"usher/health"
)

func TestParseAdvice(t *testing.T) {
	t.Parallel()
	weight := func(n int) health.Advice { return health.Advice{Weight: health.Number{Given: true, Value: n}} }
	down := func(reason string) health.Advice { return health.Advice{State: health.StateDown, Reason: reason} }
	for _, tt := range []struct {
		line string
		want health.Advice
	}{
		{"", health.Advice{}},
		{" \t, ", health.Advice{}},
		{"75%", weight(75)},
		{"0%", weight(0)},
		{"1000%", weight(1000)},
		{"1001%", weight(1000)},
		{"99999999999999999999%", weight(1000)},
		{"-1%", health.Advice{Odd: "-1%"}},
		{"+1%", health.Advice{Odd: "+1%"}},
		{"%", health.Advice{Odd: "%"}},
		{"75", health.Advice{Odd: "75"}},
		{"maxconn:30", health.Advice{Max: health.Number{Given: true, Value: 30}}},
		{"maxconn:0", health.Advice{Max: health.Number{Given: true}}},
		{"maxconn:99999999999999999999", health.Advice{Max: health.Number{Given: true, Value: 1 << 30}}},
		{"maxconn:", health.Advice{Odd: "maxconn:"}},
		{"maxconn: 30", health.Advice{Odd: "maxconn:"}},
		{"READY", health.Advice{Order: health.OrderReady}},
		{"drain", health.Advice{Order: health.OrderDrain}},
		{"maint", health.Advice{Order: health.OrderMaint}},
		{"drain ready", health.Advice{Order: health.OrderReady}},
		{"up", health.Advice{State: health.StateUp}},
		{"down", down("")},
		{"stopped", down("")},
		{"fail", down("")},
		{"failed", down("")},
		{"down#disk full, 100%", down("disk full, 100%")},
		{"down # \x1b[31mred\xff", down("[31mred?")},
		{"down#" + strings.Repeat("x", 1000), down(strings.Repeat("x", 120))},
		{"up #fine", health.Advice{State: health.StateUp}},
		{"#drain", health.Advice{}},
		{"up,ready\t50% maxconn:7", health.Advice{
			Weight: health.Number{Given: true, Value: 50}, Max: health.Number{Given: true, Value: 7},
			Order: health.OrderReady, State: health.StateUp,
		}},
		{"ready 100 of 100", health.Advice{Order: health.OrderReady, Odd: "100"}},
	} {
		if got := health.ParseAdvice(tt.line); got != tt.want {
			t.Errorf("%q: %+v, want %+v", tt.line, got, tt.want)
		}
	}
}

func FuzzParseAdvice(f *testing.F) {
	f.Add("up ready 75% maxconn:3")
	f.Add("down#\x00\xff")
	f.Fuzz(func(t *testing.T, line string) {
		a := health.ParseAdvice(line)
		for _, text := range []string{a.Odd, a.Reason} {
			if len(text) > 400 || !utf8.ValidString(text) || strings.ContainsAny(text, "\r\n\x1b\x00") {
				t.Errorf("%q: %q is not fit for a log", line, text)
			}
		}
		if a.Weight.Value < 0 || a.Weight.Value > 1000 || a.Max.Value < 0 {
			t.Errorf("%q: %+v", line, a)
		}
	})
}

func TestAdviceOver(t *testing.T) {
	t.Parallel()
	parse := health.ParseAdvice
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
		if got := parse(tt.now).Over(parse(tt.before)); got != parse(tt.want) {
			t.Errorf("%q after %q: %+v, want %q", tt.now, tt.before, got, tt.want)
		}
	}
	// What is said twice changes nothing, and to say nothing does not either.
	idempotent := func(a, b health.Advice) bool {
		once := b.Over(a)
		return b.Over(once) == once && (health.Advice{}).Over(a) == health.Advice{
			Weight: a.Weight, Max: a.Max, Order: a.Order, State: a.State, Reason: a.Reason, Odd: a.Odd,
		}
	}
	if err := quick.Check(func(wa, wb, oa, ob, sa, sb uint8) bool {
		made := func(w, o, s uint8) health.Advice {
			return health.Advice{
				Weight: health.Number{Given: w%2 == 1, Value: int(w) * int(w%2)},
				Order:  health.Order(o % 4), State: health.State(s % 3),
			}
		}
		return idempotent(made(wa, oa, sa), made(wb, ob, sb))
	}, nil); err != nil {
		t.Error(err)
	}
}

// ask has an agent of the given behaviour asked once.
func ask(t *testing.T, send string, timeout time.Duration, agent func(net.Conn)) ([]health.Advice, error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveConns(t, ln, agent)
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	var got []health.Advice
	target := health.Target{Name: "b", Network: "tcp", Address: ln.Addr().String()}
	err = health.NewAgent(send, func(from health.Target, a health.Advice) {
		if from != target {
			t.Errorf("heard of %v", from)
		}
		got = append(got, a)
	}).Check(ctx, target)
	return got, err
}

func TestAgentAnswers(t *testing.T) {
	t.Parallel()
	drain := health.Advice{Order: health.OrderDrain}
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
			got, err := ask(t, send, 20*time.Second, agent)
			if err != nil || len(got) != 1 || got[0] != drain {
				t.Errorf("heard %+v, %v", got, err)
			}
		})
	}
}

// TestAgentNotUnderstood: no answer is no advice, and never the end of the backend.
func TestAgentNotUnderstood(t *testing.T) {
	t.Parallel()
	for _, server := range badServers {
		if strings.Contains(server.name, "garbage") {
			continue // a line, though its words mean nothing
		}
		t.Run(server.name, func(t *testing.T) {
			t.Parallel()
			got, err := ask(t, "", 300*time.Millisecond, server.handle)
			if err == nil || len(got) > 0 {
				t.Errorf("heard %+v, %v", got, err)
			}
		})
	}
	got, err := ask(t, "", 20*time.Second, func(c net.Conn) { flood(c, []byte("up ")) })
	if err == nil || !strings.Contains(err.Error(), "a line of more than 1024 bytes") || len(got) > 0 {
		t.Errorf("endless line: heard %+v, %v", got, err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	err = health.NewAgent("", func(health.Target, health.Advice) { t.Error("heard something") }).
		Check(t.Context(), health.Target{Network: "tcp", Address: ln.Addr().String()})
	if err == nil || errors.Is(err, health.ErrInconclusive) {
		t.Errorf("nobody there: %v", err)
	}
}
