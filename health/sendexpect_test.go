package health_test

import (
	"bufio"
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"usher/health"
)

func TestNewSendExpect(t *testing.T) {
	t.Parallel()
	expect := func(texts ...string) health.Step { return health.Step{Expect: texts} }
	send := func(text string) health.Step { return health.Step{Send: text} }
	many := make([]health.Step, 65)
	for i := range many {
		many[i] = send("x")
	}
	for _, tt := range []struct {
		name  string
		steps []health.Step
		want  []string
	}{
		{"one", []health.Step{expect("a")}, nil},
		{"any order", []health.Step{expect("a"), expect("b"), send("c"), send("d"), expect("e"), send("f")}, nil},
		{"none", nil, []string{"expects nothing"}},
		{"only sends", []health.Step{send("a")}, []string{"expects nothing"}},
		{"empty step", []health.Step{expect("a"), {}}, []string{"step 2", "neither"}},
		{"both", []health.Step{{Send: "a", Expect: []string{"b"}}}, []string{"step 1", "both"}},
		{"empty text", []health.Step{expect("a", "")}, []string{"step 1", "empty text"}},
		{"anchored send", []health.Step{expect("a"), {Send: "b", Anchored: true}}, []string{"step 2", "anchored"}},
		{"giant send", []health.Step{expect("a"), send(strings.Repeat("x", 70_000))}, []string{"step 2", "70000"}},
		{"giant text", []health.Step{expect(strings.Repeat("x", 70_000))}, []string{"step 1", "70000"}},
		{"many", many, []string{"65 steps"}},
	} {
		_, err := health.NewSendExpect(tt.steps, nil)
		expectRefusal(t, tt.name, err, tt.want)
	}
}

// The scripts of the documentation.
var (
	redisScript    = []health.Step{{Send: "PING\r\n"}, {Expect: []string{"+PONG\r\n"}, Anchored: true}}
	smtpScript     = []health.Step{{Expect: []string{"220"}, Anchored: true}, {Send: "QUIT\r\n"}, {Expect: []string{"221"}}}
	postgresScript = []health.Step{{Send: "\x00\x00\x00\x08\x04\xd2\x16\x2f"}, {Expect: []string{"S", "N"}, Anchored: true}}
)

// lines is a server that sends a greeting, and reply(line) for each line.
func lines(greeting string, reply func(line string) string) func(net.Conn) {
	return func(conn net.Conn) {
		if _, err := io.WriteString(conn, greeting); err != nil {
			return
		}
		for r := bufio.NewReader(conn); ; {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if _, err := io.WriteString(conn, reply(line)); err != nil {
				return
			}
		}
	}
}

func redis(reply string) func(net.Conn) {
	return lines("", func(line string) string {
		if line != "PING\r\n" {
			return "-ERR unknown command\r\n"
		}
		return reply
	})
}

func smtp(greeting, bye string) func(net.Conn) {
	return lines(greeting, func(line string) string {
		if line != "QUIT\r\n" {
			return "500 what?\r\n"
		}
		return bye
	})
}

func postgres(reply string) func(net.Conn) {
	return func(conn net.Conn) {
		request := make([]byte, 8)
		if _, err := io.ReadFull(conn, request); err != nil || !bytes.Equal(request, []byte{0, 0, 0, 8, 4, 210, 22, 47}) {
			return
		}
		if _, err := io.WriteString(conn, reply); err == nil {
			hear(conn)
		}
	}
}

func TestSendExpect(t *testing.T) {
	t.Parallel()
	step := func(texts ...string) health.Step { return health.Step{Expect: texts} }
	long := strings.Repeat("x", 60_000)
	for _, tt := range []struct {
		name   string
		steps  []health.Step
		handle func(net.Conn)
		waits  bool
		want   string
	}{
		{name: "redis", steps: redisScript, handle: redis("+PONG\r\n")},
		{name: "redis with a password", steps: redisScript, handle: redis("-NOAUTH Authentication required.\r\n"), want: `step 2, expect "+PONG\r\n": unexpected reply "-NOAUTH`},
		{name: "redis, loading", steps: redisScript, handle: redis("-LOADING\r\n"), want: "LOADING"},
		{name: "redis, cut short", steps: redisScript, handle: redis("+PON"), waits: true, want: `not complete in time: "+PON"`},
		{name: "redis, silent", steps: redisScript, handle: hear, waits: true, want: "no reply in time"},

		{name: "smtp", steps: smtpScript, handle: smtp("220 mx ESMTP\r\n", "221 bye\r\n")},
		{name: "smtp, greeting of two lines", steps: smtpScript, handle: smtp("220-mx\r\n220 ESMTP\r\n", "221 bye\r\n")},
		{name: "smtp, busy", steps: smtpScript, handle: smtp("421 mx220 is busy\r\n", ""), want: `step 1, expect "220": unexpected reply "421`},
		{name: "smtp, closes after the greeting", steps: smtpScript, handle: func(conn net.Conn) { _, _ = io.WriteString(conn, "220 mx\r\n") }, want: "step "},
		{name: "smtp, no word more", steps: smtpScript, handle: smtp("220 mx\r\n", ""), waits: true, want: `step 3, expect "221": the reply was not complete in time: " mx\r\n"`},

		{name: "postgres with TLS", steps: postgresScript, handle: postgres("S")},
		{name: "postgres without", steps: postgresScript, handle: postgres("N")},
		{name: "postgres in trouble", steps: postgresScript, handle: postgres("E\x00\x00\x00\x09SFATAL\x00\x00"), want: `expect "S" or 1 more: unexpected reply "E\x00`},
		{name: "postgres, closed", steps: postgresScript, handle: postgres(""), waits: true, want: "no reply in time"},

		{name: "anywhere", steps: []health.Step{step("b\x00\xffc")}, handle: lines("aaab\x00\xffcd", nil)},
		{name: "behind the one before", steps: []health.Step{step("ab"), step("bc")}, handle: lines("abc", nil), waits: true, want: `step 2, expect "bc": the reply was not complete in time: "c"`},
		{name: "next to the one before", steps: []health.Step{step("ab"), step("ab")}, handle: lines("abab", nil)},
		{name: "first of two in the stream", steps: []health.Step{step("bb", "a"), step("bb")}, handle: lines("a bb", nil)},
		{name: "overlap with itself", steps: []health.Step{step("aab")}, handle: lines("aaab", nil)},
		{name: "at the end of much", steps: []health.Step{step("end")}, handle: lines(long+"end", nil)},
		{name: "beyond the end of much", steps: []health.Step{step("end")}, handle: lines(long+long+"end", nil), want: "not in the first 64 KiB"},
		{name: "much, twice", steps: []health.Step{step("end"), step("end")}, handle: lines(long+"end"+long+"end", nil)},
		{name: "anchored after anywhere", steps: []health.Step{step("\n"), {Expect: []string{"b"}, Anchored: true}}, handle: lines("a\nb", nil)},
		{name: "a longer one is still possible", steps: []health.Step{{Expect: []string{"abcd", "ac"}, Anchored: true}}, handle: lines("ac", nil)},
		{name: "closes too early", steps: []health.Step{step("abc")}, handle: func(conn net.Conn) { _, _ = io.WriteString(conn, "ab") }, want: `closed in the middle of the reply: "ab"`},
		{name: "closes at once", steps: []health.Step{step("abc")}, handle: func(net.Conn) {}, want: "closed without a reply"},
	} {
		for _, network := range []string{"tcp", "unix"} {
			t.Run(network+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				ln, target := listen(t, network)
				serveConns(t, ln, tt.handle)
				expectCheck(t, newSendExpect(t, tt.steps, nil), target, tt.waits, tt.want)
			})
		}
	}
}

// The error says whether a target does not read or does not answer.
func TestSendExpectNotRead(t *testing.T) {
	t.Parallel()
	_, target := listen(t, "unix") // whose buffers are small
	steps := slices.Repeat([]health.Step{{Send: strings.Repeat("x", 64<<10)}}, 60)
	steps = append(steps, health.Step{Expect: []string{"x"}})
	expectCheck(t, newSendExpect(t, steps, nil), target, true, `xxx"… of 65536 bytes: the target did not read it in time`)
}

// The pieces in which a reply arrives do not change what is found.
func TestFindEqualsASearchInTheWhole(t *testing.T) {
	t.Parallel()
	const seed = 1 // another one tests other cases
	random := rand.New(rand.NewPCG(seed, 0))
	letters := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = 'a' + byte(random.IntN(2))
		}
		return string(b)
	}
	for range 3000 {
		reply := letters(random.IntN(60))
		var searches []health.Step
		for range 1 + random.IntN(4) {
			var texts []string
			for range 1 + random.IntN(3) {
				texts = append(texts, letters(1+random.IntN(6)))
			}
			searches = append(searches, health.Step{Expect: texts, Anchored: random.IntN(3) == 0})
		}
		readers := []io.Reader{
			strings.NewReader(reply), iotest.OneByteReader(strings.NewReader(reply)),
			iotest.HalfReader(strings.NewReader(reply)), iotest.DataErrReader(strings.NewReader(reply)),
		}
		want := searchWhole(reply, searches)
		for i, r := range readers {
			if got := health.Find(r, searches); got != want {
				t.Fatalf("reader %d: reply %q, texts %v: found %d, want %d", i, reply, searches, got, want)
			}
		}
	}
}

// searchWhole returns how many searches in a row succeed.
func searchWhole(reply string, searches []health.Step) int {
	for n, s := range searches {
		end := -1
		for _, text := range s.Expect {
			at := strings.Index(reply, text)
			if s.Anchored && !strings.HasPrefix(reply, text) {
				at = -1
			}
			if last := at + len(text); at >= 0 && (end < 0 || last < end) {
				end = last
			}
		}
		if end < 0 {
			return n
		}
		reply = reply[end:]
	}
	return len(searches)
}
