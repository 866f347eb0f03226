package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func TestParseStat(t *testing.T) {
	t.Parallel()
	const rest = " S 4728 4711 2908 0 -1 4194304 99 0 0 0 120 345 7 8 20 0 1 0 79735 3133440 380\n"
	want := procStat{group: 4711, user: 120, sys: 345}
	for _, text := range []string{"5181 (nginx)" + rest, "5181 (a b) R 1 (c)" + rest, "1 ()" + rest} {
		if got, err := parseStat([]byte(text)); err != nil || got != want {
			t.Errorf("parseStat(%q) = %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "5181 nginx S 1 2", "5181 (nginx)", "5181 (nginx) S 1 2 3",
		strings.Replace("1 (a)"+rest, "4711", "x", 1), strings.Replace("1 (a)"+rest, "120", "x", 1),
		strings.Replace("1 (a)"+rest, "345", "x", 1),
	} {
		if got, err := parseStat([]byte(text)); err == nil {
			t.Errorf("parseStat(%q) = %+v, want an error", text, got)
		}
	}
}

func TestParseAnonymous(t *testing.T) {
	t.Parallel()
	const rollup = `559a0d01b000-7fff9b1f7000 ---p 00000000 00:00 0                          [rollup]
Rss:                1856 kB
Pss:                 561 kB
Pss_Anon:            152 kB
Pss_File:            409 kB
Anonymous:           304 kB
Swap:                 16 kB
SwapPss:               8 kB
`
	if got, err := parseAnonymous([]byte(rollup)); err != nil || got != 160<<10 {
		t.Errorf("got %d, %v, want %d", got, err, 160<<10)
	}
	for _, bad := range []string{"", "Rss: 12 kB\n", "SwapPss: 8 kB\n", "Pss_Anon: 152\n", "Pss_Anon: x kB\n"} {
		if got, err := parseAnonymous([]byte(bad)); err == nil {
			t.Errorf("parseAnonymous(%q) = %d, want an error", bad, got)
		}
	}
}

func TestUDPBound(t *testing.T) {
	t.Parallel()
	held := netip.MustParseAddrPort("127.0.0.1:5353")
	word := binary.NativeEndian.Uint32([]byte{127, 0, 0, 1})
	table := fmt.Sprintf("   sl  local_address rem_address   st tx_queue rx_queue\n"+
		"  417: 00000000:0044 00000000:0000 07 00000000:00000000\n"+
		" 5702: %08X:14E9 00000000:0000 07 00000000:00000000\n", word)
	for addr, want := range map[netip.AddrPort]bool{
		held: true,
		netip.MustParseAddrPort("127.0.0.1:5354"): false,
		netip.MustParseAddrPort("127.0.0.2:5353"): false,
		netip.MustParseAddrPort("0.0.0.0:68"):     true,
		netip.MustParseAddrPort("0.0.0.0:0"):      false, // the other column
	} {
		if got := udpBound([]byte(table), addr); got != want {
			t.Errorf("%s bound: %v, want %v", addr, got, want)
		}
	}
	if udpBound([]byte("\n\n"), held) {
		t.Error("bound in an empty table")
	}
}

func TestParseCPUModel(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC 7: B\n\nprocessor\t: 1\nmodel name\t: other\n": "AMD EPYC 7: B",
		"processor\t: 0\nBogoMIPS\t: 243.75\n": "",
		"":                                     "",
	} {
		if got := parseCPUModel([]byte(text)); got != want {
			t.Errorf("parseCPUModel(%q) = %q, want %q", text, got, want)
		}
	}
}
