package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what a group of processes has used.
type usage struct {
	CPU       time.Duration
	User, Sys int64 // clock ticks
	Anonymous int64 // bytes, if asked for
}

func (u usage) since(v usage) usage {
	return usage{u.CPU - v.CPU, u.User - v.User, u.Sys - v.Sys, u.Anonymous - v.Anonymous}
}

// readUsage sums up the usage of processes. All CPU clocks are read first, as
// close together as can be.
func readUsage(pids []int, memory bool) (usage, error) {
	var u usage
	for _, pid := range pids {
		cpu, err := cpuClock(processClock(pid))
		if err != nil {
			return usage{}, fmt.Errorf("process %d: %w", pid, err)
		}
		u.CPU += cpu
	}
	for _, pid := range pids {
		s, err := readStat(pid)
		if err != nil {
			return usage{}, err
		}
		u.User += s.user
		u.Sys += s.sys
		if !memory {
			continue
		}
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return usage{}, err
		}
		n, err := parseAnonymous(b)
		if err != nil {
			return usage{}, fmt.Errorf("process %d: %w", pid, err)
		}
		u.Anonymous += n
	}
	return u, nil
}

// processClock is the id of the CPU-time clock of all threads of a process, ended ones
// included. It is built as clock_getcpuclockid(3) does: the complement of the pid, and
// 2 for the scheduler's own clock.
func processClock(pid int) int32 { return ^int32(pid)<<3 | 2 }

func cpuClock(id int32) (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		return 0, fmt.Errorf("read CPU clock: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}

func readStat(pid int) (procStat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	s, err := parseStat(b)
	if err != nil {
		return procStat{}, fmt.Errorf("process %d: %w", pid, err)
	}
	return s, nil
}

// processGroup returns the processes of a group; there is always one at least.
func processGroup(group int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		s, err := readStat(pid)
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH):
			continue // ended meanwhile
		case err != nil:
			return nil, err
		}
		if s.group == group {
			pids = append(pids, pid)
		}
	}
	if len(pids) == 0 {
		return nil, fmt.Errorf("the proxy has ended: process group %d is empty", group)
	}
	return pids, nil
}
