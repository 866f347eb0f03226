package main

import (
	"encoding/xml"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestPictures holds each picture to the tables that it is drawn from.
func TestPictures(t *testing.T) {
	t.Parallel()
	var names []string
	for _, p := range pictures {
		names = append(names, filepath.Join("results", p.name))
		want, err := p.svg("results")
		if err != nil {
			t.Error(err)
			continue
		}
		got, err := os.ReadFile(filepath.Join("results", p.name))
		if err != nil {
			t.Error(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s is not what its tables give: go run ./bench %s", p.name, picturesCommand)
		}
	}
	files, err := filepath.Glob("results/*.svg")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if !slices.Contains(names, name) {
			t.Errorf("nothing draws %s", name)
		}
	}
	folder := t.TempDir()
	if err := drawPictures(folder); err == nil || !strings.Contains(err.Error(), "tcp.md") {
		t.Errorf("without pages: %v", err)
	}
}

// TestClaims: a title that the figures contradict is an error.
func TestClaims(t *testing.T) {
	t.Parallel()
	type change struct {
		page, section    string
		n                int
		row, column, now string
	}
	changes := map[string]change{
		"costs.svg":          {"tcp.md", "idle", 0, "usher", "KiB/conn", "90"},
		"scheduler-cost.svg": {"schedulers.md", relation(10), 0, "lc", "10,000 / 10", "90"},
		"table-build.svg":    {"schedulers.md", changeOfWeight, 0, "mh", "1,000", "90"},
		"disruption.svg":     {"disruption.md", joins.heading(), 0, "500", "mh", "99 (90)"},
		"spread.svg":         {"disruption.md", spreadHeading, 0, "1,000", "mh", "90"},
		"tables.svg":         {"tables.md", "Find", 0, inTable, "1,000,000", "90000"},
		"rules.svg":          {"rules.md", connectionsHeading, 1, byUsher, "10,000", "9"},
		"kube-change.svg":    {"kube.md", kubeTitle, 0, changeTime + medianOf, kubeStudy.trials()[0].String(), "90"},
	}
	for _, p := range pictures {
		r, err := p.read("results")
		if err != nil {
			t.Fatal(err)
		}
		c := changes[p.name]
		table := r.table(c.page, c.section, c.n)
		if r.cell(table, c.row, c.column); r.err != nil {
			t.Errorf("%s: %v", p.name, r.err)
			continue
		}
		table.rows[slices.IndexFunc(table.rows, func(cells []string) bool { return cells[0] == c.row })][slices.Index(table.rows[0], c.column)] = c.now
		if p.draw(r); r.err == nil || !strings.Contains(r.err.Error(), "no longer say") {
			t.Errorf("%s with %+v: %v", p.name, c, r.err)
		}
	}
}

// TestCostsTitle: the picture of the README says what the figures say of a connection.
func TestCostsTitle(t *testing.T) {
	t.Parallel()
	for ratio, want := range map[cell]string{
		{value: 1.03, from: 0.95, to: 1.11}: "as much CPU as", {value: 0.9, from: 0.8, to: 0.97}: "less CPU than", {value: 1.2, from: 1.1, to: 1.3}: "more CPU than",
	} {
		if got := comparedCPU(ratio); got != want {
			t.Errorf("%+v: %q, want %q", ratio, got, want)
		}
	}
}

// TestPicturesAreReadable: all texts of a picture stand on white inside of it, have contrast and
// size, and neither a text nor a line nor a bar runs through another text.
func TestPicturesAreReadable(t *testing.T) {
	t.Parallel()
	for _, p := range pictures {
		svg, err := os.ReadFile(filepath.Join("results", p.name))
		if err != nil {
			t.Fatal(err)
		}
		var d drawing
		if err := xml.Unmarshal(svg, &d); err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
		var width, height float64
		sides := strings.Fields(d.ViewBox)
		width, height = numberOf(t, sides[2]), numberOf(t, sides[3])
		if d.Title == "" || len(d.Desc) < 100 || d.Role != "img" || d.Label != "title desc" {
			t.Errorf("%s says nothing to a screen reader: %q, %q", p.name, d.Title, d.Desc)
		}
		if len(d.Paths) == 0 || !strings.Contains(d.Paths[0].Style, "fill:#FFFFFF") || !strings.Contains(d.Paths[0].D, "L"+sides[2]+",") {
			t.Errorf("%s has no white ground", p.name)
		}
		boxes := make([]box, len(d.Texts))
		for i, text := range d.Texts {
			boxes[i] = text.box(t, height)
			if b := boxes[i]; b.left < 0 || b.right > width || b.top < 0 || b.bottom > height {
				t.Errorf("%s: %q is cut off: %+v", p.name, text.Words, b)
			}
			if size := numberOf(t, styleOf(text.Style, "font-size")); size < textSize {
				t.Errorf("%s: %q has a size of %v", p.name, text.Words, size)
			}
			if c := contrastOnWhite(t, styleOf(text.Style, "fill")); c < 4.5 {
				t.Errorf("%s: %q has a contrast of %.1f", p.name, text.Words, c)
			}
			for j := range i {
				if boxes[i].overlaps(boxes[j]) {
					t.Errorf("%s: %q and %q overlap", p.name, text.Words, d.Texts[j].Words)
				}
			}
		}
		var edges []box
		for _, path := range d.Paths[min(1, len(d.Paths)):] {
			edges = append(edges, path.points(t, height)...)
		}
		for i, b := range boxes {
			if slices.ContainsFunc(edges, b.overlaps) {
				t.Errorf("%s: a line runs through %q", p.name, d.Texts[i].Words)
			}
		}
	}
}

// drawing is what the test reads of an SVG.
type drawing struct {
	ViewBox string    `xml:"viewBox,attr"`
	Role    string    `xml:"role,attr"`
	Label   string    `xml:"aria-labelledby,attr"`
	Title   string    `xml:"title"`
	Desc    string    `xml:"desc"`
	Paths   []svgPath `xml:"g>path"`
	Texts   []svgText `xml:"g>text"`
}

type svgPath struct {
	D     string `xml:"d,attr"`
	Style string `xml:"style,attr"`
}

type svgText struct {
	Left  string `xml:"x,attr"`
	Base  string `xml:"y,attr"`
	Width string `xml:"textLength,attr"`
	Style string `xml:"style,attr"`
	Words string `xml:",chardata"`
}

type box struct{ left, right, top, bottom float64 }

func (b box) overlaps(o box) bool {
	return b.left < o.right && o.left < b.right && b.top < o.bottom && o.top < b.bottom
}

// box is where the letters are, with y from the top.
func (s *svgText) box(t *testing.T, height float64) box {
	x, base, size := numberOf(t, s.Left), height+numberOf(t, s.Base), numberOf(t, styleOf(s.Style, "font-size"))
	return box{x, x + numberOf(t, s.Width), base - 0.72*size, base + 0.2*size}
}

var corner = regexp.MustCompile(`[ML]([-\d.e+]+),([-\d.e+]+)`)

// points are places along a line, or of a bar's edge. Marks, which are round, have none.
func (p *svgPath) points(t *testing.T, height float64) (points []box) {
	var last box
	for i, m := range corner.FindAllStringSubmatch(p.D, -1) {
		x, y := numberOf(t, m[1]), height-numberOf(t, m[2])
		at := box{x, x, y, y}
		for step := range 100 {
			if part := float64(step) / 100; i > 0 {
				x, y := last.left+part*(at.left-last.left), last.top+part*(at.top-last.top)
				points = append(points, box{x, x, y, y})
			}
		}
		points, last = append(points, at), at
	}
	return points
}

func styleOf(style, name string) string {
	for part := range strings.SplitSeq(style, ";") {
		if key, value, _ := strings.Cut(part, ":"); key == name {
			return value
		}
	}
	return ""
}

// contrastOnWhite is that of WCAG 2.
func contrastOnWhite(t *testing.T, colour string) float64 {
	v, err := strconv.ParseUint(strings.TrimPrefix(colour, "#"), 16, 24)
	if err != nil {
		t.Fatal(err)
	}
	luminance := 0.0
	for i, weight := range [...]float64{0.0722, 0.7152, 0.2126} {
		c := float64(v>>(8*i)&0xff) / 255
		luminance += weight * math.Pow((c+0.055)/1.055, 2.4)
	}
	return 1.05 / (luminance + 0.05)
}

func numberOf(t *testing.T, s string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(strings.TrimSuffix(s, "px"), 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
