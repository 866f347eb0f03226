package command

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"usher/internal/api"
	"usher/internal/ipvsadm"
)

// restore runs the lines of the input. Like ipvsadm it goes on behind a line that is refused, ends at one whose words are
// wrong, and has the status of the last line. A script is ipvsadm-restore: it empties the table first, and lines that
// begin with # are comments.
func (c *dialectCall) restore(isScript bool) int {
	r := restoration{call: c, parser: c.parser()}
	r.parser.IsRestoring = true
	if isScript {
		r.lines = append(r.lines, "-C")
	}
	for words, err := range ipvsadm.ReadLines(c.stdin) {
		if err != nil {
			r.fail(err)
			return r.status
		}
		if isScript && strings.HasPrefix(words[0], "#") {
			continue
		}
		if isOver := r.do(words); isOver {
			return r.status
		}
	}
	r.flush()
	return r.status
}

// restoration is a restore that is under way. Changes wait, to be one change: up to the end, or up to a line that prints
// something.
type restoration struct {
	call    *dialectCall
	parser  ipvsadm.Parser
	lines   []string        // that wait
	refused []api.LineError // that were not sent; each stands before the line of its number
	isLast  bool            // the last one of refused is also the last line
	status  int             // of the last line that has run
}

// do runs a line, or has it wait. It reports whether that was the last one.
func (r *restoration) do(words []string) (isOver bool) {
	cmd, err := r.parser.Parse(words)
	if e, is := errors.AsType[*ipvsadm.Error](err); is && !e.EndsRestore {
		r.refuse(e.Status, e.Text)
		return false
	}
	if err != nil {
		r.fail(err)
		return true
	}
	if e := cmd.Unsupported(); e != nil {
		r.refuse(e.Status, strings.Join(words, " ")+": "+e.Text)
		return false
	}
	if cmd.IsChange() {
		r.lines, r.isLast = append(r.lines, cmd.Line()), false
		return false
	}
	if isOver = !r.flush(); isOver {
		return true
	}
	if err := r.call.print(cmd); err != nil {
		r.fail(err)
		return true
	}
	r.status = ok
	return cmd.Op == ipvsadm.Help || cmd.Op == ipvsadm.Version // where ipvsadm exits
}

// refuse keeps why a line was not sent, to be said in its turn.
func (r *restoration) refuse(status int, text string) {
	r.refused, r.isLast = append(r.refused, api.LineError{Line: len(r.lines), Status: status, Text: text}), true
}

// fail runs what waits, and says what ends the restore.
func (r *restoration) fail(err error) {
	if r.flush() {
		r.status = r.call.failIPVS(err)
	}
}

// flush runs the lines that wait, and says which ones were refused. It returns false where there is no usher that has
// run them, and has said so.
func (r *restoration) flush() bool {
	all := r.refused
	if len(r.lines) > 0 {
		refusals, err := r.call.changeIPVS(r.lines)
		if err != nil {
			r.status = r.call.failIPVS(err)
			return false
		}
		r.status = ok
		for _, e := range refusals {
			if e.Line == len(r.lines)-1 {
				r.status = e.Status
			}
			if e.Errno == 0 && 0 <= e.Line && e.Line < len(r.lines) { // a reason of usher's own names the line
				e.Text = r.lines[e.Line] + ": " + e.Text
			}
			all = append(all, e)
		}
		sort.SliceStable(all, func(i, j int) bool { return all[i].Line < all[j].Line })
	}
	for _, e := range all {
		fmt.Fprintln(r.call.stderr, printable(e.Text))
	}
	if r.isLast {
		r.status = r.refused[len(r.refused)-1].Status
	}
	r.lines, r.refused, r.isLast = nil, nil, false
	return true
}
