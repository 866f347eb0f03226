package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// procStat is the used part of /proc/PID/stat.
type procStat struct {
	group     int   // process group
	user, sys int64 // clock ticks, all threads, also those that have ended
}

// parseStat reads a /proc/PID/stat. The command, in parentheses, may hold
// spaces and parentheses itself.
func parseStat(b []byte) (procStat, error) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return procStat{}, errors.New("process status has no command")
	}
	f := strings.Fields(string(b[i+1:]))
	// The first of f is field 3 of proc(5): pgrp is 5, utime 14, stime 15.
	if len(f) < 13 {
		return procStat{}, fmt.Errorf("process status has %d fields", len(f)+2)
	}
	group, err1 := strconv.Atoi(f[2])
	user, err2 := strconv.ParseInt(f[11], 10, 64)
	sys, err3 := strconv.ParseInt(f[12], 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return procStat{}, fmt.Errorf("process status: %w", err)
	}
	return procStat{group: group, user: user, sys: sys}, nil
}

// parseAnonymous returns the bytes of anonymous memory in a /proc/PID/smaps_rollup,
// swapped out or not. A page that processes share since a fork counts in parts
// (Pss_Anon). So the sum over the processes is right.
func parseAnonymous(b []byte) (int64, error) {
	var total int64
	found := false
	for line := range strings.Lines(string(b)) {
		name, rest, _ := strings.Cut(line, ":")
		if name != "Pss_Anon" && name != "SwapPss" {
			continue
		}
		n, ok := strings.CutSuffix(strings.TrimSpace(rest), " kB")
		kb, err := strconv.ParseInt(n, 10, 64)
		if !ok || err != nil {
			return 0, fmt.Errorf("memory map: bad line %q", strings.TrimSpace(line))
		}
		total += kb << 10
		found = found || name == "Pss_Anon"
	}
	if !found {
		return 0, errors.New("memory map: the kernel reports no Pss_Anon")
	}
	return total, nil
}

// udpBound reports whether a /proc/net/udp has a socket that is bound to addr,
// an IPv4 address. The address is there as the machine's own word, the port as
// a number.
func udpBound(table []byte, addr netip.AddrPort) bool {
	ip := addr.Addr().As4()
	want := fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip[:]), addr.Port())
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == want {
			return true
		}
	}
	return false
}

// parseCPUModel returns the processor's name in /proc/cpuinfo, empty where
// the architecture gives none.
func parseCPUModel(b []byte) string {
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		if name, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
