package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParseCell(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]cell{
		"42.8 (39.6–45.3)": {true, "42.8", 42.8, 39.6, 45.3},
		"1.01 [0.96–1.03]": {true, "1.01", 1.01, 0.96, 1.03},
		"33.3 (0.0122)":    {true, "33.3", 33.3, 0.0122, 0.0122},
		"16,211,350":       {true, "16,211,350", 16211350, 16211350, 16211350},
		"4.04 [744]":       {true, "4.04", 4.04, 744, 744},
		none:               {},
		"":                 {},
	} {
		got, err := parseCell(text)
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(cell{})); err != nil || diff != "" {
			t.Errorf("%q: %v, (-want +got):\n%s", text, err, diff)
		}
	}
	for _, text := range []string{"usher", "1.2.3", "5 (", "5 (a–b)", "1–2", "5 (1–2.3.4)"} {
		if got, err := parseCell(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

const samplePage = "# A title\n\n- usher: 1, engine epoll\n\nMedian of 5 rounds of 1s, or of 3 rounds.\n\n" +
	"## One\n\n| a   |  10 | 1,000 |\n|-----|----:|------:|\n| x   | 1.5 |     2 |\n| y   |   – |       |\n\n" +
	"| again | b |\n|---|--:|\n| x | no |\n\n### Two\n\n| n | z |\n|--:|--:|\n| 1 | 5 (4–6) |\n| 2 | – |\n"

func TestParsePage(t *testing.T) {
	t.Parallel()
	got := parsePage("p.md", samplePage)
	want := &page{name: "p.md", facts: map[string]string{"usher": "1, engine epoll"}, rounds: "5\u00a0rounds", tables: []table{
		{"One", [][]string{{"a", "10", "1,000"}, {"x", "1.5", "2"}, {"y", "–", ""}}},
		{"One", [][]string{{"again", "b"}, {"x", "no"}}},
		{"Two", [][]string{{"n", "z"}, {"1", "5 (4–6)"}, {"2", "–"}}},
	}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(page{}, table{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestReader: a reader finds figures by name, and keeps the first thing that it does not find.
func TestReader(t *testing.T) {
	t.Parallel()
	fresh := func() *reader {
		return &reader{pages: map[string]*page{"p.md": parsePage("p.md", samplePage)}}
	}
	r := fresh()
	points := append(r.across(r.table("p.md", "One", 0), "x"), r.down(r.table("p.md", "Two", 0), "z", func(c cell) float64 { return c.to })...)
	if diff := cmp.Diff([]point{{10, 1.5}, {1000, 2}, {1, 6}, {2, 0}}, points, cmp.AllowUnexported(point{})); diff != "" || r.err != nil {
		t.Errorf("%v, (-want +got):\n%s", r.err, diff)
	}
	for want, ask := range map[string]func(*reader){
		"there is no page q.md":                func(r *reader) { r.across(r.table("q.md", "One", 0), "x") },
		`p.md has no such table below "One"`:   func(r *reader) { r.cell(r.table("p.md", "One", 2), "x", "10") },
		`no row "w" with a column "10"`:        func(r *reader) { r.cell(r.table("p.md", "One", 0), "w", "10") },
		`no row "x" with a column "11"`:        func(r *reader) { r.cell(r.table("p.md", "One", 0), "x", "11") },
		`column "b": "no" is not a figure`:     func(r *reader) { r.cell(r.table("p.md", "One", 1), "x", "b") },
		"the results no longer say that it is": func(r *reader) { r.claim(true, "so"); r.claim(false, "it is") },
	} {
		r := fresh()
		ask(r)
		r.fail("a later error")
		if r.err == nil || !strings.Contains(r.err.Error(), want) {
			t.Errorf("got %v, want %q", r.err, want)
		}
	}
}
