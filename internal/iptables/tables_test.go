package iptables

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// saved is what iptables-save -c writes.
func saved(t testing.TB, tables *Tables) string {
	t.Helper()
	var text strings.Builder
	if err := Save(&text, tables, SaveOptions{Counted: true, Now: "now"}); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// do does commands, and returns what they print or the text of their errors.
func do(t testing.TB, tables **Tables, o Options, lines ...string) string {
	t.Helper()
	var all strings.Builder
	for _, line := range lines {
		found, bad := split(line)
		if bad != nil {
			t.Fatal(bad)
		}
		var args []string
		for _, w := range found {
			args = append(args, w.text)
		}
		after := (*tables).Clone()
		c, err := ParseArgs(args, nil)
		out := ""
		if err == nil {
			out, err = c.Do(after, o)
		}
		all.WriteString(out)
		if err != nil {
			all.WriteString(err.(*Error).Text("iptables", 0))
			continue
		}
		*tables = after
	}
	return all.String()
}

// TestSaveRestore: what is saved is restored to the same tables.
func TestSaveRestore(t *testing.T) {
	t.Parallel()
	const seed, states = 1, 1000 // another seed tests other cases
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range states {
		tables := NewTables()
		var lines []string
		for range 2 + r.IntN(20) {
			lines = append(lines, randomCommand(r, tableNames[r.IntN(len(tableNames))]))
		}
		do(t, &tables, Options{}, lines...)
		text := saved(t, tables)
		again := NewTables()
		out, err := Restore(again, text, RestoreOptions{Counted: true})
		if got := saved(t, again); err != nil || out != "" || got != text {
			t.Fatalf("seed %d, state %d: %v %s\n%s\nsaved\n%s\nand again\n%s", seed, i, err, out, strings.Join(lines, "\n"), text, got)
		}
		checkReferences(t, tables)
	}
}

// checkReferences compares the references and the number of rules with a count of them all.
func checkReferences(t *testing.T, tables *Tables) {
	t.Helper()
	for _, table := range tables.All() {
		want, n := make(map[string]int), 0
		for _, c := range table.Chains() {
			n += len(c.Rules)
			for _, r := range c.Rules {
				if r.IsJump {
					want[r.Target]++
				}
			}
		}
		for _, c := range table.Chains() {
			if c.References != want[c.Name] || table.Chain(c.Name) != c {
				t.Errorf("%s has %d references, and %d rules jump to it", c.Name, c.References, want[c.Name])
			}
		}
		if n != table.Len() {
			t.Errorf("%s has %d rules, and counts %d", table.Name, n, table.Len())
		}
	}
}

// TestClone: whatever is done to a clone, the original stays as it was.
func TestClone(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 0))
	tables := NewTables()
	do(t, &tables, Options{}, "-N a", "-N b", "-N web", "-A INPUT -j a", "-A a -p tcp --dport 80 -j b -c 1 2", "-A b -j DROP")
	for range 2000 {
		before, text := tables, saved(t, tables)
		do(t, &tables, Options{}, randomCommand(r, "filter"), randomCommand(r, "filter"))
		if got := saved(t, before); got != text {
			t.Fatalf("was\n%s\nis\n%s", text, got)
		}
		if r.IntN(4) == 0 {
			tables = before // two clones of one
		}
	}
}

// TestZero: counters that are set to zero count from there on, whatever the live ones say.
func TestZero(t *testing.T) {
	t.Parallel()
	tables := NewTables()
	live := uint64(7)
	o := Options{Counters: Counters{
		Rule:   func(r *Rule) (uint64, uint64) { return live, 2 * live },
		Policy: func(*Chain) (uint64, uint64) { return live, 0 },
	}}
	do(t, &tables, o, "-A INPUT -j DROP -c 3 4")
	first := tables.Table("filter").Chain("INPUT").Rules[0]
	if got := do(t, &tables, o, "-S INPUT -v", "-Z INPUT", "-S INPUT -v"); got != "-P INPUT ACCEPT -c 7 0\n-A INPUT -c 10 18 -j DROP\n"+
		"-P INPUT ACCEPT -c 0 0\n-A INPUT -c 0 0 -j DROP\n" {
		t.Error(got)
	}
	live = 9
	if got := do(t, &tables, o, "-S INPUT -v"); got != "-P INPUT ACCEPT -c 2 0\n-A INPUT -c 2 4 -j DROP\n" {
		t.Error(got)
	}
	if last := tables.Table("filter").Chain("INPUT").Rules[0]; last.Origin() != first {
		t.Error("a rule is another one once its counters are set")
	}
}

// TestMeaning: a running usher refuses what it can make nothing of, with the reason; a restore leaves that out and says so.
func TestMeaning(t *testing.T) {
	t.Parallel()
	o := Options{Check: CheckMeaning, CheckPolicy: CheckPolicyMeaning}
	tables := NewTables()
	for _, tt := range []struct{ line, want string }{
		{"-A FORWARD -j ACCEPT", "chain `FORWARD' of table filter has no meaning here (usher forwards no packets; new flows are judged in INPUT)"},
		{"-A OUTPUT -j ACCEPT", "chain `OUTPUT' of table filter has no meaning here (usher's own connections go to backends alone)"},
		{"-P FORWARD DROP", "a policy of chain `FORWARD' of table filter has no meaning here (new flows are judged in INPUT of table filter)"},
		{"-t raw -A PREROUTING -j NOTRACK", "chain `PREROUTING' of table raw has no meaning here (usher knows all of its flows)"},
		{"-A INPUT -m set --match-set x src -j DROP", "match `set' has no meaning here (a rule has addresses: -s 10.0.0.0/8,192.168.0.0/16 makes a rule of each)"},
		{"-A INPUT -p icmp -j ACCEPT", "protocol icmp has no meaning here (usher carries tcp and udp alone)"},
		{"-A INPUT -m addrtype --dst-type LOCAL -j DROP", "match `addrtype' has no meaning here (-d has the address that a client asked for)"},
		{"-t nat -A PREROUTING -j TPROXY --on-port 5", "target TPROXY has no meaning here (" + translates + ")"},
		{"-A INPUT -p tcp ! --syn -j DROP", "rule would never match (a new connection begins with SYN alone)"},
		{"-t mangle -A PREROUTING -j DROP", "target DROP has no meaning in table mangle (INPUT of table filter judges new flows)"},
		{"-t mangle -A PREROUTING -p tcp --syn -j TCPMSS --clamp-mss-to-pmtu", "target TCPMSS has no meaning here (usher changes no packets)"},
		{"-t nat -A PREROUTING -j LOG", "target LOG has no meaning in table nat (INPUT of table filter judges new flows)"},
		{"-t nat -A PREROUTING -p icmp -j DNAT --to-destination 10.0.0.1", "protocol icmp has no meaning here (usher carries tcp and udp alone)"},
		{"-A INPUT -s 10.0.0.0/255.0.255.0 -j DROP", "mask `255.0.255.0' has holes (usher matches prefixes: write a rule for each)"},
		{"-P INPUT DROP", ""}, {"-A INPUT -s 10.0.0.0/8 -p tcp -j ACCEPT", ""}, {"-A INPUT -s fd00::/8 -j ACCEPT", ""},
		{"-t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.0.0.1:80", ""},
	} {
		got := do(t, &tables, o, tt.line)
		if want := "iptables " + Version + ": " + tt.want + "\n"; tt.want != "" && got != want || tt.want == "" && got != "" {
			t.Errorf("%s: %s", tt.line, got)
		}
	}
	var refused []string
	_, err := Restore(tables, `*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:web - [0:0]
-A INPUT -p tcp -m tcp --dport 80 -j web
-A INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,PSH,ACK,URG NONE -j DROP
-A INPUT -m physdev --physdev-in "eth 0" -j DROP
-A FORWARD -j DROP
-A web -m state --state NEW -j ACCEPT
COMMIT
`, RestoreOptions{Options: o, Refused: func(table string, line int, text string, err *Error) {
		refused = append(refused, fmt.Sprintf("%s %d %s: %s", table, line, text, err.Message))
	}})
	want := []string{
		"filter 6 -A INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,PSH,ACK,URG NONE -j DROP: --tcp-flags FIN,SYN,RST,PSH,ACK,URG NONE has no meaning here",
		"filter 3 :FORWARD DROP [0:0]: a policy of chain `FORWARD' of table filter has no meaning here",
		"filter 7 -A INPUT -m physdev --physdev-in \"eth 0\" -j DROP: match `physdev' has no meaning here",
		"filter 8 -A FORWARD -j DROP: chain `FORWARD' of table filter has no meaning here",
	}
	if err != nil || !slices.Equal(refused, want) {
		t.Errorf("%v\n%s", err, strings.Join(refused, "\n"))
	}
	if got := saved(t, tables); !strings.Contains(got, "web - [0:0]\n[0:0] -A INPUT -p tcp -m tcp --dport 80 -j web\n[0:0] -A web -m state --state NEW -j ACCEPT\nCOMMIT\n") {
		t.Error(got)
	}
}

// services is what kube-proxy writes for services of ten endpoints.
func services(n int) string {
	var text strings.Builder
	text.WriteString("*nat\n:KUBE-SERVICES - [0:0]\n")
	for i := range n {
		fmt.Fprintf(&text, ":KUBE-SVC-%d - [0:0]\n", i)
		for j := range 10 {
			fmt.Fprintf(&text, ":KUBE-SEP-%d-%d - [0:0]\n", i, j)
		}
	}
	text.WriteString("-A PREROUTING -j KUBE-SERVICES\n") // each jump that follows is one that flows come to
	for i := range n {
		fmt.Fprintf(&text, "-A KUBE-SERVICES -d 10.96.%d.%d/32 -p tcp -m comment --comment \"ns/svc%d:http cluster IP\" -m tcp --dport 80 -j KUBE-SVC-%d\n",
			i/256, i%256, i, i)
		for j := range 10 {
			chance := fmt.Sprintf(" -m statistic --mode random --probability %.11f", 1/float64(10-j))
			if j == 9 {
				chance = ""
			}
			fmt.Fprintf(&text, "-A KUBE-SVC-%d%s -j KUBE-SEP-%d-%d\n", i, chance, i, j)
			fmt.Fprintf(&text, "-A KUBE-SEP-%d-%d -s 10.1.%d.%d/32 -j KUBE-MARK-MASQ\n", i, j, i%256, j)
			fmt.Fprintf(&text, "-A KUBE-SEP-%d-%d -p tcp -m tcp -j DNAT --to-destination 10.1.%d.%d:8080\n", i, j, i%256, j)
		}
	}
	return strings.Replace(text.String(), ":KUBE-SERVICES", ":KUBE-MARK-MASQ - [0:0]\n:KUBE-SERVICES", 1) + "COMMIT\n"
}

// BenchmarkRestore restores kube-proxy's tables for 1,000 services.
func BenchmarkRestore(b *testing.B) {
	text := services(1000)
	for b.Loop() {
		tables := NewTables()
		if _, err := Restore(tables, text, RestoreOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAppend appends a rule to these tables.
func BenchmarkAppend(b *testing.B) {
	tables := NewTables()
	if _, err := Restore(tables, services(1300), RestoreOptions{}); err != nil {
		b.Fatal(err)
	}
	for _, line := range []string{"-t nat -A KUBE-SVC-7 -d 10.0.0.1 -j RETURN", "-t nat -A KUBE-SERVICES -d 10.0.0.1 -j KUBE-SVC-8", "-t nat -N x"} {
		b.Run(strings.Fields(line)[2], func(b *testing.B) {
			args := strings.Fields(line)
			for b.Loop() {
				c, err := ParseArgs(args, nil)
				if err == nil {
					_, err = c.Do(tables.Clone(), Options{})
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// FuzzArgs: nothing that is read panics, and tables that it made are saved and restored alike.
func FuzzArgs(f *testing.F) {
	for _, line := range []string{
		"-t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 1.2.3.4-1.2.3.5:80-90/7 --random", "-A INPUT -m set --match-set x src -j SET --add-set y dst",
		"-t mangle -I OUTPUT -m mark ! --mark 0x1/2 -j MARK --or-mark 3", "-vnL --line-numbers", "-A a -g b -c 1,2", "-Z INPUT 1 -L", "-E a b",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		found, bad := split(line)
		if bad != nil {
			return
		}
		args := make([]string, len(found))
		for i, w := range found {
			args[i] = w.text
		}
		c, err := ParseArgs(args, nil)
		if err != nil {
			if e := err.(*Error); e.Text("iptables", 0) == "" || e.Status == 0 {
				t.Errorf("%q: %+v", line, e)
			}
			return
		}
		tables := NewTables()
		do(t, &tables, Options{}, "-N a", "-N b", "-A a -j b", "-t nat -N a", "-t mangle -N a")
		if _, err := c.Do(tables, Options{}); err != nil {
			return
		}
		if len(c.Rules) > 16 {
			return // lists of addresses, which say nothing new
		}
		text, again := saved(t, tables), NewTables()
		if _, err := Restore(again, text, RestoreOptions{Counted: true}); err != nil || saved(t, again) != text {
			t.Errorf("%q: %v\n%s\n%s", line, err, text, saved(t, again))
		}
	})
}

// FuzzRestore: no text panics, and what it makes is saved and restored alike.
func FuzzRestore(f *testing.F) {
	f.Add("*nat\n:a - [0:0]\n[1:2] -A a -j MASQUERADE\nCOMMIT\n# x\n*filter\n:INPUT DROP [5:6]\n-A INPUT -j REJECT\nCOMMIT\n", true)
	f.Add(services(2), false)
	f.Fuzz(func(t *testing.T, text string, keep bool) {
		tables := NewTables()
		_, err := Restore(tables, text, RestoreOptions{Counted: true, KeepAll: keep, Verbose: keep})
		if err != nil && err.(*Error).Line == 0 {
			t.Errorf("%q: %+v", text, err)
		}
		once, again := saved(t, tables), NewTables()
		if _, err := Restore(again, once, RestoreOptions{Counted: true}); err != nil || saved(t, again) != once {
			t.Errorf("%q: %v\n%s\n%s", text, err, once, saved(t, again))
		}
	})
}
