package configfile

import (
	"bytes"
	"strings"
)

// part is whole lines of a file: a service, or entries of the top level. The parser needs a hundred times the size of
// its text in memory, so that a large file is parsed part by part.
type part struct {
	name  []byte // of the service, in the text; nil: entries of the top level
	text  []byte
	above int // lines of the file above
}

// typicalPart is about how long a service is, in bytes.
const typicalPart = 256

// cut divides a text in plain block style into parts that mean the same one by one: services are the entries of one
// block, and nothing refers to another part. It returns false for any other text, which is parsed as a whole.
//
// A line that is not indented, or as a service's name is, begins an entry, since YAML indents the contents of an entry
// further. A part whose quotes or brackets stay open is a mistake by itself. The parts stand in room if that is large
// enough.
func cut(text []byte, room []part) (parts []part, ok bool) {
	if hasReferences(text) {
		return nil, false
	}
	if room == nil {
		room = make([]part, 0, 1+len(text)/typicalPart)
	}
	c := cutter{text: text, parts: room[:0]}
	for at := 0; at < len(text); c.line++ {
		end := len(text)
		if i := bytes.IndexByte(text[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		if !c.add(at, text[at:end]) {
			return nil, false
		}
		at = end
	}
	c.finish(len(text))
	return c.parts, len(c.parts) > 0
}

// cutter is the state of cut between two lines.
type cutter struct {
	text  []byte
	parts []part
	line  int // lines so far

	open        part // the part that the next line belongs to
	begin       int  // of the open part, in the text
	isOpen      bool
	inServices  bool
	hasServices bool
	indent      int // of the names of services; 0: not known yet
}

// add takes one line with its end. It returns false if the text is not of the plain style.
func (c *cutter) add(at int, line []byte) bool {
	indent := 0
	for indent < len(line) && line[indent] == ' ' {
		indent++
	}
	rest := line[indent:]
	if len(rest) == 0 || rest[0] == '\n' || rest[0] == '#' {
		return true
	}
	switch {
	case indent == 0:
		key, after, ok := cutKey(rest)
		if !ok {
			return false
		}
		if string(key) != keyServices {
			if !c.isOpen || c.open.name != nil || c.inServices {
				c.start(at, nil)
			}
			c.inServices = false
			return true
		}
		if c.hasServices || !isBlank(after) {
			return false
		}
		c.finish(at)
		c.inServices, c.hasServices = true, true
	case c.inServices:
		if c.indent == 0 {
			c.indent = indent
		}
		if indent > c.indent {
			return c.isOpen
		}
		name, _, ok := cutKey(rest)
		if !ok || indent < c.indent {
			return false
		}
		c.start(at, name)
	default:
		return c.isOpen
	}
	return true
}

// start ends the open part and begins another at a line.
func (c *cutter) start(at int, name []byte) {
	c.finish(at)
	c.open, c.begin, c.isOpen = part{name: name, above: c.line}, at, true
}

func (c *cutter) finish(end int) {
	if c.isOpen {
		c.open.text = c.text[c.begin:end]
		c.parts = append(c.parts, c.open)
	}
	c.isOpen = false
}

const keyLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

// cutKey splits a line that begins with a plain key and its colon, which a blank or the end of the line follows.
func cutKey(line []byte) (key, after []byte, ok bool) {
	if strings.IndexByte("-.:/", line[0]) >= 0 {
		return nil, nil, false
	}
	for i, b := range line {
		switch {
		case b == ':' && (i+1 == len(line) || line[i+1] == ' ' || line[i+1] == '\n'):
			return line[:i], line[i+1:], true
		case b != ':' && b != '/' && strings.IndexByte(keyLetters, b) < 0:
			return nil, nil, false
		}
	}
	return nil, nil, false
}

// isBlank reports whether the rest of a line is blank, or a comment.
func isBlank(rest []byte) bool {
	rest = bytes.TrimSpace(rest)
	return len(rest) == 0 || rest[0] == '#'
}

// hasReferences reports whether a text may have anchors, aliases or carriage returns: an & or * that begins a word.
func hasReferences(text []byte) bool {
	if bytes.IndexByte(text, '\r') >= 0 {
		return true
	}
	for _, sign := range []byte("&*") {
		for at := 0; ; at++ {
			i := bytes.IndexByte(text[at:], sign)
			if i < 0 {
				break
			}
			at += i
			if at == 0 || bytes.IndexByte([]byte(" \t\n[{,:-"), text[at-1]) >= 0 {
				return true
			}
		}
	}
	return false
}
