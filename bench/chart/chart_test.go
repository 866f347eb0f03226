package chart

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// sample has a name that needs escaping, a gap, a line of one point and a reference.
func sample() Figure {
	return Figure{
		Title: "What <costs> & what does not", X: "backends", Y: "ns", Columns: 2,
		Panels: []Panel{
			{Title: "flat", Lines: []Line{
				{Name: "scan", Reference: true, Points: []Point{{1, 2}, {10, 20}, {100, 200}}},
				{Name: "rr", Points: []Point{{1, 10}, {10, 10}, {100, 10}}},
			}},
			{Title: "not <flat>", Lines: []Line{
				{Name: "a&b", Points: []Point{{1, 1}, {10, 100}, {30, 0}, {100, 1000}, {math.NaN(), 3}, {3, math.Inf(1)}}},
				{Name: "one point", Points: []Point{{10, 5}}},
				{Name: "empty"},
			}},
			{Title: "below", Lines: []Line{{Name: "x", Points: []Point{{2, 4}, {50, 80}}}}},
		},
	}
}

func draw(t *testing.T, f Figure) string {
	t.Helper()
	var b strings.Builder
	if err := Write(&b, f); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	t.Parallel()
	const name = "testdata/sample.svg"
	got := draw(t, sample())
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("drawing (-want +got):\n%s", diff)
	}
}

func TestSameBytes(t *testing.T) {
	t.Parallel()
	if first, second := draw(t, sample()), draw(t, sample()); first != second {
		t.Error("two drawings of one figure differ")
	}
}

// element is one of the drawing's, with what it holds.
type element struct {
	XMLName  xml.Name
	Attr     []xml.Attr `xml:",any,attr"`
	Text     string     `xml:",chardata"`
	Elements []element  `xml:",any"`
}

func (e *element) attr(name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// find returns the elements of a name and class, at any depth.
func (e *element) find(name, class string) (found []*element) {
	if e.XMLName.Local == name && e.attr("class") == class {
		found = append(found, e)
	}
	for i := range e.Elements {
		found = append(found, e.Elements[i].find(name, class)...)
	}
	return found
}

func parse(t *testing.T, drawn string) *element {
	t.Helper()
	var svg element
	if err := xml.Unmarshal([]byte(drawn), &svg); err != nil {
		t.Fatalf("not XML: %v", err)
	}
	if svg.XMLName.Space != "http://www.w3.org/2000/svg" || svg.XMLName.Local != "svg" {
		t.Fatalf("the root is %v", svg.XMLName)
	}
	return &svg
}

// places returns where the marks of a line are, that of the legend included.
func places(t *testing.T, line *element) (at []Point) {
	t.Helper()
	d := line.find("path", "marks")[0].attr("d")
	for part := range strings.SplitSeq(d[1:], "M") {
		x, rest, _ := strings.Cut(part, " ")
		y, _, _ := strings.Cut(rest, "m")
		at = append(at, Point{number(t, x), number(t, y)})
	}
	return at
}

func number(t *testing.T, s string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// gridLines returns where the lines of labelled ticks are, by their labels.
func gridLines(t *testing.T, panel *element, axis string) map[string]float64 {
	t.Helper()
	lines := make(map[string]float64)
	for _, text := range panel.find("text", axis) {
		if axis == "x" {
			lines[text.Text] = number(t, text.attr("x"))
		} else {
			lines[text.Text] = number(t, text.attr("y")) - 4
		}
	}
	return lines
}

func TestPointsAreAtTheirPlaces(t *testing.T) {
	t.Parallel()
	svg := parse(t, draw(t, sample()))
	panels := svg.find("g", "panel")
	if len(panels) != 3 {
		t.Fatalf("%d panels, want 3", len(panels))
	}
	x, y := gridLines(t, panels[1], "x"), gridLines(t, panels[1], "y")
	got := places(t, panels[1].find("g", "line0")[0])
	want := []Point{{x["1"], y["1"]}, {x["10"], y["100"]}, {x["100"], y["1,000"]}}
	if diff := cmp.Diff(want, got[:len(got)-1]); diff != "" {
		t.Errorf("marks (-want +got):\n%s", diff)
	}
	if path := panels[1].find("g", "line0")[0].find("path", "path")[0].attr("d"); strings.Count(path, "M") != 3 || strings.Count(path, "L") != 1 {
		t.Errorf("path %q, want a gap after the second point", path)
	}
	// 5 lies 0.69897 of the way from 1 to 10.
	one := places(t, panels[1].find("g", "line1")[0])[0]
	if want := y["1"] + math.Log10(5)*(y["10"]-y["1"]); math.Abs(one.Y-want) > 0.01 || one.X != x["10"] {
		t.Errorf("5 is at %v, want %v, %v", one, x["10"], want)
	}
	for _, axis := range []string{"x", "y"} {
		if diff := cmp.Diff(gridLines(t, panels[0], axis), gridLines(t, panels[2], axis)); diff != "" {
			t.Errorf("panels differ in axis %s:\n%s", axis, diff)
		}
	}
}

func TestAllIsInside(t *testing.T) {
	t.Parallel()
	svg := parse(t, draw(t, sample()))
	width, height := number(t, svg.attr("width")), number(t, svg.attr("height"))
	for _, panel := range svg.find("g", "panel") {
		left, top, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(panel.attr("transform"), "translate("), ")"), " ")
		for n := range palette {
			for _, line := range panel.find("g", "line"+strconv.Itoa(n)) {
				for _, p := range places(t, line) {
					if x, y := number(t, left)+p.X, number(t, top)+p.Y; x < 0 || x > width || y < 0 || y > height {
						t.Errorf("a mark is at %v, %v of %v, %v", x, y, width, height)
					}
				}
			}
		}
	}
}

// TestBothSchemes: each colour of the light form has one of the dark form.
func TestBothSchemes(t *testing.T) {
	t.Parallel()
	drawn := draw(t, sample())
	for _, class := range []string{"paper", "ink", "grid", "grey", "line0", "line1"} {
		if !strings.Contains(drawn, `class="`+class+`" color="`) || !strings.Contains(drawn, "."+class+" { color: ") {
			t.Errorf("%s has not both colours", class)
		}
	}
}

func TestAxis(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		least, most float64
		from, to    float64
		labels      string
	}{
		{1, 10_000, 1, 10_000, "1 10 100 1,000 10,000"},
		{20, 80_000, 20, 100_000, "100 1,000 10,000 100,000"},
		{3, 4, 2, 20, "2 5 10 20"},
		{7, 7, 5, 50, "5 10 20 50"},
		{10, 10, 10, 100, "10 20 50 100"},
		{0.0012, 0.9, 0.001, 1, "0.001 0.01 0.1 1"},
		{100, 1e6, 100, 1e6, "100 1,000 10,000 100,000 1M"},
		{Least, Least, Least, 10 * Least, "0.000000000001 0.000000000002 0.000000000005 0.00000000001"},
		{Most, Most, Most, 10 * Most, "1000000000M 2000000000M 5000000000M 10000000000M"},
	} {
		a := newAxis(span{tt.least, tt.most})
		var labels []string
		for _, tick := range a.ticks {
			if tick.major {
				labels = append(labels, label(tick.value))
			}
		}
		if got := strings.Join(labels, " "); a.from != tt.from || a.to != tt.to || got != tt.labels {
			t.Errorf("%v to %v: from %v to %v, %q; want %v, %v, %q", tt.least, tt.most, a.from, a.to, got, tt.from, tt.to, tt.labels)
		}
		if a.at(a.from) != 0 || a.at(a.to) != 1 {
			t.Errorf("%v to %v: the ends are at %v and %v", tt.least, tt.most, a.at(a.from), a.at(a.to))
		}
	}
}

func TestLabel(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0.05: "0.05", 1: "1", 500: "500", 1000: "1,000", 200_000: "200,000", 1e6: "1M", 2e7: "20M",
	} {
		if got := label(v); got != want {
			t.Errorf("label(%v) = %q, want %q", v, got, want)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	many := func(n int, reference bool) Figure {
		return Figure{Panels: []Panel{{Title: "p", Lines: slices.Repeat([]Line{{Reference: reference, Points: []Point{{1, 1}}}}, n)}}}
	}
	for name, f := range map[string]Figure{
		"no panel":        {},
		"no point":        {Panels: []Panel{{Lines: []Line{{Points: []Point{{0, 1}, {1, -1}, {1e16, 1}}}}}}},
		"many lines":      many(MaxLines+1, false),
		"many references": many(MaxReferences+1, true),
	} {
		if err := Write(io.Discard, f); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := Write(io.Discard, many(MaxLines, false)); err != nil {
		t.Error(err)
	}
	if err := Write(full{}, sample()); !errors.Is(err, errFull) {
		t.Errorf("got %v, want the writer's error", err)
	}
}

var errFull = errors.New("full")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }
