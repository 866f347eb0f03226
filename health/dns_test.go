package health_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"usher/health"
)

func newDNS(t testing.TB, name string) health.DNS {
	t.Helper()
	c, err := health.NewDNS(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNewDNS(t *testing.T) {
	t.Parallel()
	const a = "0001" + "0001"
	for name, want := range map[string]string{
		".":             "00" + a,
		"a":             "0161" + "00" + a,
		"example.com":   "07" + "6578616d706c65" + "03" + "636f6d" + "00" + a,
		"example.com.":  "07" + "6578616d706c65" + "03" + "636f6d" + "00" + a,
		"_x.*.B-1":      "025f78" + "012a" + "03422d31" + "00" + a,
		longName(63, 3): strings.Repeat("3f"+strings.Repeat("78", 63), 3) + "00" + a,
	} {
		const header = "abcd" + "0100" + "0001" + "0000" + "0000" + "0000"
		if got := hex.EncodeToString(newDNS(t, name).Query(0xabcd)); got != header+want {
			t.Errorf("%.50s: query\n%s, want\n%s", name, got, header+want)
		}
	}
	for _, name := range []string{"", "..", ".com", "a..b", "a b", "é.fr", "a/b", "a\x00b", longName(64, 1), longName(63, 4), longName(1, 127) + ".x"} {
		if c, err := health.NewDNS(name); err == nil {
			t.Errorf("NewDNS(%q) = %q, want an error", name, c)
		} else if strings.Contains(err.Error(), "\n") || len(err.Error()) > 200 {
			t.Errorf("NewDNS(%q): %v", name, err)
		}
	}
	// 255 bytes on the wire, the limit.
	newDNS(t, longName(1, 127))
}

// longName returns a name of n labels.
func longName(size, n int) string {
	return strings.TrimSuffix(strings.Repeat(strings.Repeat("x", size)+".", n), ".")
}

// reply returns a reply to a query with flags, record counts and records.
func reply(query []byte, flags uint16, answers, authorities uint16, records string) []byte {
	m := append([]byte(nil), query...)
	binary.BigEndian.PutUint16(m[2:], flags)
	binary.BigEndian.PutUint16(m[6:], answers)
	binary.BigEndian.PutUint16(m[8:], authorities)
	return append(m, records...)
}

const (
	ok = 0x8180 // a response, recursion desired and available
	// record is an A record whose name is a pointer to the question's, long one
	// the same with the name written out.
	record = "\xc0\x0c\x00\x01\x00\x01\x00\x00\x0e\x10\x00\x04\x0a\x00\x00\x01"
	long   = "\x07example\x03com\x00" + "\x00\x01\x00\x01\x00\x00\x0e\x10\x00\x04\x0a\x00\x00\x01"
)

// dnsReplies are replies to a query for example.com and the error of the check.
var dnsReplies = []struct {
	name  string
	reply func(query []byte) []byte
	want  string
}{
	{"one address", func(q []byte) []byte { return reply(q, ok, 1, 0, record) }, ""},
	{"three records", func(q []byte) []byte { return reply(q, ok, 2, 1, record+long+record) }, ""},
	{"no records", func(q []byte) []byte { return reply(q, ok, 0, 0, "") }, ""},
	{"an alias alone", func(q []byte) []byte {
		return reply(q, ok, 1, 0, "\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x00\x00\x04\x01a\xc0\x14")
	}, ""},
	{"NXDOMAIN", func(q []byte) []byte { return reply(q, ok|3, 0, 0, "") }, ""},
	{"in capitals", func(q []byte) []byte {
		return bytes.Replace(reply(q, ok, 0, 0, ""), []byte("example"), []byte("EXAMPLE"), 1)
	}, ""},
	{"cut short and says so", func(q []byte) []byte { return reply(q, ok|0x200, 9, 0, record[:7]) }, ""},
	{"SERVFAIL", func(q []byte) []byte { return reply(q, ok|2, 0, 0, "") }, "SERVFAIL"},
	{"REFUSED", func(q []byte) []byte { return reply(q, ok|5, 0, 0, "") }, "REFUSED"},

	{"echo", func(q []byte) []byte { return q }, "not a reply"},
	{"a notification", func(q []byte) []byte { return reply(q, ok|4<<11, 0, 0, "") }, "not a reply"},
	{"another id", func(q []byte) []byte {
		m := reply(q, ok, 0, 0, "")
		m[0] ^= 1
		return m
	}, "another query"},
	{"another name", func(q []byte) []byte {
		return bytes.Replace(reply(q, ok, 0, 0, ""), []byte("example"), []byte("exampel"), 1)
	}, "another query"},
	{"another type", func(q []byte) []byte {
		m := reply(q, ok, 0, 0, "")
		m[len(m)-3] = 28
		return m
	}, "another query"},
	{"no question", func(q []byte) []byte {
		m := reply(q, ok, 0, 0, "")
		m[5] = 0
		return m[:12]
	}, "malformed"},
	{"two questions", func(q []byte) []byte {
		m := reply(q, ok, 0, 0, string(q[12:]))
		m[5] = 2
		return m
	}, "malformed"},
	{"empty", func([]byte) []byte { return nil }, "malformed"},
	{"a header cut short", func(q []byte) []byte { return q[:11] }, "malformed"},
	{"a question cut short", func(q []byte) []byte { return reply(q, ok, 0, 0, "")[:len(q)-1] }, "malformed"},
	{"a record that is not there", func(q []byte) []byte { return reply(q, ok, 2, 0, record) }, "malformed"},
	{"a record cut short", func(q []byte) []byte { return reply(q, ok, 1, 0, record[:len(record)-1]) }, "malformed"},
	{"a label of 64 bytes", func(q []byte) []byte { return reply(q, ok, 1, 0, "\x40"+strings.Repeat("x", 64)+"\x00"+record[2:]) }, "malformed"},
	{"half a pointer", func(q []byte) []byte { return reply(q, ok, 1, 0, "\xc0") }, "malformed"},
	{"65535 records", func(q []byte) []byte { return reply(q, ok, 65535, 65535, record) }, "malformed"},
}

func TestDNS(t *testing.T) {
	t.Parallel()
	c := newDNS(t, "example.com")
	for _, tt := range dnsReplies {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// Enough ignored replies end the check.
			target := answer(t, func(q []byte) [][]byte { return slices.Repeat([][]byte{tt.reply(q)}, health.MaxReplies) })
			expectError(t, check(t, c, target, false), tt.want)
		})
	}
	t.Run("silent", func(t *testing.T) {
		t.Parallel()
		expectCheck(t, c, answer(t, say()), true, "no reply in time")
	})
}

// A good reply counts after bad ones.
func TestDNSGoodReplyAfterBadOnes(t *testing.T) {
	t.Parallel()
	target := answer(t, func(q []byte) [][]byte {
		var replies [][]byte
		for _, tt := range dnsReplies {
			if tt.want == "malformed" || tt.want == "another query" || tt.want == "not a reply" {
				replies = append(replies, tt.reply(q))
			}
		}
		return append(replies, reply(q, ok, 1, 0, record))
	})
	expectError(t, check(t, newDNS(t, "example.com"), target, false), "")
}

// IDs are unpredictable, so that hosts off the path cannot answer for the target.
func TestDNSIDsVary(t *testing.T) {
	t.Parallel()
	ids := make(chan uint16, 1)
	target := answer(t, func(q []byte) [][]byte {
		ids <- binary.BigEndian.Uint16(q)
		return [][]byte{reply(q, ok, 0, 0, "")}
	})
	seen := make(map[uint16]bool)
	for range 16 {
		expectError(t, check(t, newDNS(t, "."), target, false), "")
		seen[<-ids] = true
	}
	// Three equal ones of 16 are practically impossible.
	if len(seen) < 14 {
		t.Errorf("%d ids in 16 queries", len(seen))
	}
}

func FuzzDNSReply(f *testing.F) {
	c := newDNS(f, "example.com")
	query := c.Query(7)
	for _, tt := range dnsReplies {
		f.Add(tt.reply(query))
	}
	f.Fuzz(func(t *testing.T, m []byte) {
		decided, err := c.Evaluate(m, 7)
		if !decided && err == nil {
			t.Error("not decided, and nothing is wrong")
		}
		if decided && (len(m) < len(query) || m[0] != 0 || m[1] != 7 || m[2]&0xf8 != 0x80 ||
			!strings.EqualFold(string(m[12:len(query)]), string(query[12:]))) {
			t.Errorf("decided by what is not a reply to the query: %x", m)
		}
		if decided && (err != nil) != (m[3]&0xf == 2 || m[3]&0xf == 5) {
			t.Errorf("decided by code %d: %v", m[3]&0xf, err)
		}
	})
}
