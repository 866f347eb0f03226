package iptables

import (
	"strings"

	"usher/proxy/rules"
)

// maxComment is the longest comment, in bytes.
const maxComment = 255

func newComment() *extension {
	m := &rules.Comment{}
	return &extension{match: m, flags: []flag{{names: []string{"--comment"}, isNeeded: true, set: func(v string, _ bool) *Error {
		if len(v) > maxComment {
			return errorf("comment: Argument must have a maximum length of %d characters", maxComment).withBlank()
		}
		m.Text = v
		return nil
	}}}}
}

func saveComment(b *strings.Builder, m *rules.Comment) {
	b.WriteString(" -m comment --comment " + quote(m.Text))
}

func listComment(b *strings.Builder, m *rules.Comment) {
	b.WriteString(" /* " + m.Text + " */")
}
