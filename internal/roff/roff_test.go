package roff

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A text of the help becomes paragraphs, lists and literal lines.
func TestText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"paragraphs", "one\ntwo\n\nthree\n", ".PP\none two\n.PP\nthree\n"},
		{"list", "  --a N     first\n  -b        second,\n            and more\n",
			".TP\n\\fB\\-\\-a N\\fR\nfirst\n.TP\n\\fB\\-b\\fR\nsecond, and more\n"},
		{"long term", "  --a-long-one VALUE\n            what it does\n", ".TP\n\\fB\\-\\-a\\-long\\-one VALUE\\fR\nwhat it does\n"},
		{"numbers", "  1. one\n     and more\n  2. two\n", ".TP\n\\fB1.\\fR\none and more\n.TP\n\\fB2.\\fR\ntwo\n"},
		{"commands", "  usher ls\n  usher flows\n", ".PP\n.nf\nusher ls\nusher flows\n.fi\n"},
		{"one explained, one not", "  usher ls\n  usher flows   lists\n", ".PP\n.nf\nusher ls\nusher flows   lists\n.fi\n"},
		{"YAML", "  a: 1      # one\n  b:\n    c: 2\n", ".PP\n.nf\na: 1      # one\nb:\n  c: 2\n.fi\n"},
		{"YAML of one level", "  a: 1      b: 2\n", ".PP\n.nf\na: 1      b: 2\n.fi\n"},
		{"command of two lines", "  usher a \\\n          b\n", ".PP\n.nf\nusher a \\e\n        b\n.fi\n"},
		{"text that looks like macros", ".SH\n\n'br\n\n  .TP\n", ".PP\n\\&.SH\n.PP\n\\(aqbr\n.PP\n.nf\n\\&.TP\n.fi\n"},
		{"special characters", "a\\nb ~ ^ ` \x1b[31m\n", ".PP\na\\enb \\(ti \\(ha \\(ga [31m\n"},
		{"nothing", "\n\n", ""},
	} {
		p := new(Page)
		p.Text(tt.text)
		if diff := cmp.Diff(tt.want, p.String()); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

// Headings begin a paragraph by themselves, and their words are quoted.
func TestPage(t *testing.T) {
	t.Parallel()
	p := New("usher", 1, time.Date(2026, 11, 30, 10, 0, 0, 0, time.UTC), `usher "1"`, "User Commands")
	p.Section("Name")
	p.Paragraph("usher - balances")
	p.Subsection("-x")
	p.Item("-x", "y")
	want := `.TH USHER 1 2026-11-30 "usher \(dq1\(dq" "User Commands"
.SH "NAME"
usher \- balances
.SS "\-x"
.TP
\fB\-x\fR
y
`
	if diff := cmp.Diff(want, p.String()); diff != "" {
		t.Error(diff)
	}
}
