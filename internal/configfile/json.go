package configfile

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// jsonTree is tree for a JSON object, which needs less memory than YAML. It returns false for any other text.
func (s source) jsonTree() (*node, *Error, bool) {
	if !bytes.HasPrefix(bytes.TrimLeft(s.text, " \t\r\n"), []byte("{")) || !json.Valid(s.text) {
		return nil, nil, false
	}
	r := jsonReader{builder: builder{source: s}, Decoder: json.NewDecoder(bytes.NewReader(s.text)), at: position{1, 1}}
	r.UseNumber()
	root, err := r.value(0)
	return root, err, true
}

// jsonReader builds the nodes of a valid JSON text.
type jsonReader struct {
	builder
	*json.Decoder
	offset int // of at
	at     position
}

// next returns a token and its place. The text is valid, so that there is one.
func (r *jsonReader) next() (json.Token, position) {
	begin := int(r.InputOffset())
	for bytes.IndexByte([]byte(" \t\r\n,:"), r.text[begin]) >= 0 {
		begin++
	}
	for r.offset < begin {
		c, size := utf8.DecodeRune(r.text[r.offset:])
		r.offset += size
		if r.at.column++; c == '\n' {
			r.at = position{r.at.line + 1, 1}
		}
	}
	t, _ := r.Token()
	return t, r.at
}

func (r *jsonReader) value(depth int) (*node, *Error) {
	t, at := r.next()
	if depth > maxDepth {
		return nil, r.tooDeep(at)
	}
	switch t := t.(type) {
	case string:
		return &node{at: at, kind: scalar, text: t}, nil
	case json.Number:
		return &node{at: at, kind: scalar, text: t.String()}, nil
	case bool:
		if t {
			return &node{at: at, kind: scalar, text: "true"}, nil
		}
		return &node{at: at, kind: scalar, text: "false"}, nil
	case json.Delim:
		if t == '{' {
			return r.object(at, depth)
		}
		return r.array(at, depth)
	}
	return &node{at: at, kind: null}, nil
}

func (r *jsonReader) array(at position, depth int) (*node, *Error) {
	out := &node{at: at, kind: list}
	for r.More() {
		item, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out.items = append(out.items, item)
	}
	r.next()
	return out, nil
}

func (r *jsonReader) object(at position, depth int) (*node, *Error) {
	out := &node{at: at, kind: mapping}
	seen := make(map[string]position)
	for r.More() {
		t, at := r.next()
		key, _ := t.(string)
		if err := r.once(seen, key, at); err != nil {
			return nil, err
		}
		value, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out.entries = append(out.entries, entry{key, at, value})
	}
	r.next()
	return out, nil
}
