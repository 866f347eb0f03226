package dialect

import (
	"fmt"
	"testing"
)

// manyLines are those of n services of ten servers each, as ipvsadm -S prints them.
func manyLines(n int) []string {
	lines := make([]string, 0, 11*n)
	for i := range n {
		v := fmt.Sprintf("127.%d.%d.%d:8080", 10+i/2500, i/50%50, 1+i%50)
		lines = append(lines, "-A -t "+v+" -s wlc")
		for j := range 10 {
			lines = append(lines, fmt.Sprintf("-a -t %s -r 10.%d.%d.%d:80 -m -w %d", v, 1+i/256, i%256, 1+j, 1+j%3))
		}
	}
	return lines
}

// BenchmarkRestore makes 10,000 services of ten servers each.
func BenchmarkRestore(b *testing.B) {
	lines, s := manyLines(10_000), newServer(b)
	run := func(lines ...string) {
		if refused, err := s.ChangeIPVS(b.Context(), lines); err != nil || len(refused) > 0 {
			b.Fatal(refused, err)
		}
	}
	for b.Loop() {
		run(lines...)
		b.StopTimer()
		run("-C")
		b.StartTimer()
	}
}

// BenchmarkView is what ipvsadm -L asks for, of as many.
func BenchmarkView(b *testing.B) {
	s := newServer(b)
	if refused, err := s.ChangeIPVS(b.Context(), manyLines(10_000)); err != nil || len(refused) > 0 {
		b.Fatal(refused, err)
	}
	for b.Loop() {
		if v := s.IPVS(); len(v.Services) != 10_000 {
			b.Fatal(len(v.Services))
		}
	}
}
