//go:build linux

package conformance

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A case that hangs ends at its limit and names what it waited for. It fails the test
// only when the run is strict.
func TestLimit(t *testing.T) {
	t.Parallel()
	for name, wait := range map[string]func(*C){
		"accept": func(c *C) {
			b := c.Backend()
			c.Step("a client that never comes")
			_, err := b.Accept()
			c.Must(err)
		},
		"read": func(c *C) {
			b := c.Backend()
			client, err := c.TryDial(b.Addr)
			c.Must(err)
			c.Step("a client that never comes")
			c.Must(client.Hear("x"))
		},
		"pause": func(c *C) {
			c.Step("a client that never comes")
			c.Sleep(time.Hour)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := Options{Patience: time.Hour}
			x := Case{Name: name, Limit: 2 * time.Second, Run: wait}
			r := runCase(t, &Usher{Engine: "none"}, o, x, newBlock())
			if r.Outcome != Failed || !strings.Contains(r.Reason, "waiting for: a client that never comes") {
				t.Errorf("outcome %d, reason %q", r.Outcome, r.Reason)
			}
			if r.Took > time.Minute {
				t.Errorf("took %v", r.Took)
			}
		})
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		run    func(*C)
		want   Outcome
		reason string
	}{
		{"passed", func(*C) {}, Passed, ""},
		{"failed", func(c *C) { c.Fatalf("no %s", "good") }, Failed, "no good"},
		{"first reason", func(c *C) { c.Errorf("one"); c.Skipf("two") }, Failed, "one"},
		{"skipped", func(c *C) { c.Skipf("cannot") }, Skipped, "cannot"},
		{"other goroutine", func(c *C) {
			c.Together(func() error { return nil }, func() error { return net.ErrClosed })
		}, Failed, net.ErrClosed.Error()},
	}
	for _, x := range tests {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			r := runCase(t, &Usher{Engine: "none"}, Options{}, Case{Name: x.name, Run: x.run}, newBlock())
			if r.Outcome != x.want || r.Reason != x.reason {
				t.Errorf("outcome %d because %q, want %d because %q", r.Outcome, r.Reason, x.want, x.reason)
			}
		})
	}
}

// A failure counts only on a machine that ran what was due.
func TestVerdictsNeedAMachine(t *testing.T) {
	t.Parallel()
	const s, ms = time.Second, time.Millisecond
	for _, tt := range []struct {
		r    Result
		want bool
	}{
		{Result{Outcome: Failed, Took: 10 * s}, true},
		{Result{Outcome: Failed, Took: 10 * s, behind: 2 * s, stall: 50 * ms}, true},
		{Result{Outcome: Failed, Took: 10 * s, behind: 3 * s, stall: 50 * ms}, false},
		{Result{Outcome: Failed, Took: 10 * s, behind: 500 * ms, stall: 400 * ms}, false},
		{Result{Outcome: Passed, Took: 10 * s, behind: 9 * s, stall: 5 * s}, true},
	} {
		if got := tt.r.hasVerdict(); got != tt.want {
			t.Errorf("%+v: %v, want %v", tt.r, got, tt.want)
		}
	}
}

// Receive must see each way in which a stream can be harmed.
func TestReceive(t *testing.T) {
	t.Parallel()
	const n = 3*mib + 17
	s := Stream{block: newBlock(), phase: 12345}
	whole := make([]byte, 0, n)
	for len(whole) < n {
		whole = append(whole, s.at(len(whole), n-len(whole))...)
	}
	edit := func(f func(b []byte) []byte) []byte { return f(append([]byte(nil), whole...)) }
	const page = 4096
	tests := []struct {
		name string
		sent []byte
		want string // in the error; empty: none
	}{
		{"whole", whole, ""},
		{"bit flipped", edit(func(b []byte) []byte { b[n-1] ^= 1; return b }), "byte 3145744 of"},
		{"page lost", edit(func(b []byte) []byte { return append(b[:page], b[2*page:]...) }), "byte 4096 of"},
		{"page doubled", edit(func(b []byte) []byte { return append(b[:2*page:2*page], b[page:]...) }), "byte 8192 of"},
		{"MiB doubled", edit(func(b []byte) []byte { return append(b[:mib:mib], b...) }), "is wrong"},
		{"pages swapped", edit(func(b []byte) []byte {
			copy(b[page:], whole[2*page:3*page])
			copy(b[2*page:], whole[page:2*page])
			return b
		}), "byte 4096 of"},
		{"cut", whole[:n-1], "EOF"},
	}
	for _, x := range tests {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			a, b := net.Pipe()
			go func() {
				a.Write(x.sent)
				a.Close()
			}()
			defer b.Close()
			err := (&Conn{Conn: b, who: "client", patience: 5 * time.Second}).Receive(s, n)
			if (err == nil) != (x.want == "") || err != nil && !strings.Contains(err.Error(), x.want) {
				t.Errorf("error %v, want %q", err, x.want)
			}
		})
	}
}

func TestHexAddr(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"0100007F:1F90":                         "127.0.0.1:8080",
		"00000000000000000000000001000000:0050": "[::1]:80",
		"0000000000000000FFFF00000100007F:0001": "127.0.0.1:1",
	} {
		if got := hexAddr(in).String(); got != want {
			t.Errorf("%s is %s, want %s", in, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var results []Result
	for i, x := range Cases()[:3] {
		results = append(results, Result{Case: x, Outcome: Outcome(i), Reason: []string{"", "lost a | byte", "no way"}[i]})
	}
	got := Table([]Report{
		{Target: "a", Version: "1.2", Notes: []string{"care."}, Results: results},
		{Target: "b", Results: results[:1]},
	})
	want := `| case | a 1.2 | b |
|---|:-:|:-:|
| *bytes* | | |
| server speaks first | yes | yes |
| bulk both ways | **no** [1] |   |
| no stall after bulk | – [2] |   |
| passed | 1 of 2 | 1 of 1 |

[1] a: lost a / byte
[2] a: no way

a was run with care.
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNamesAreUnique(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, x := range Cases() {
		if seen[x.Name] {
			t.Errorf("two cases are called %s", x.Name)
		}
		seen[x.Name] = true
	}
}

func TestToldEnds(t *testing.T) {
	t.Parallel()
	var ends toldEnds
	before := time.Now()
	time.Sleep(time.Millisecond) // the clock moves on
	over := ends.begin([]string{"a", "b"})
	during := time.Now()
	isCovered := func(backend string, begun, failed time.Time, want bool) {
		t.Helper()
		if got := ends.cover(backend, begun, failed); got != want {
			t.Errorf("the end of a flow of backend %q is covered: %v, want %v", backend, got, want)
		}
	}
	isCovered("a", before, during, true)
	isCovered("b", during, during, true)
	isCovered("", before, during, true)
	isCovered("c", before, during, false)
	isCovered("a", before, before, false) // it failed before the change
	over()
	time.Sleep(time.Millisecond)
	after := time.Now()
	isCovered("a", during, after, true)
	isCovered("a", after, after, false) // it began after the change
	ends.begin(nil)()
	isCovered("", after, time.Now(), false)
}
