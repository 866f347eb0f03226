package configfile

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	// maxDepth bounds the nesting of a text; the plan needs five levels. The parser recurses without a bound of its own.
	maxDepth = 32
	// maxAliased bounds how many values all aliases of a text stand for.
	maxAliased = 100_000
	// maxWhole bounds a text that the YAML parser takes at once, in bytes: a hostile one needs 350 times as much memory.
	maxWhole = 1 << 20
)

// node is a value of a text. Aliases share the node of their anchor. A tree is not changed once it is built.
type node struct {
	at      position
	kind    kind
	text    string // of a scalar
	items   []*node
	entries []entry
	size    int // values in it, with those that aliases stand for
}

type kind string

const (
	null    kind = "empty"
	scalar  kind = "a value"
	list    kind = "a list"
	mapping kind = "a mapping"
)

// entry is a key of a mapping and its value.
type entry struct {
	key   string
	at    position
	value *node
}

// get returns the value of a key, or nil.
func (n *node) get(key string) *node {
	for _, e := range n.entries {
		if e.key == key {
			return e.value
		}
	}
	return nil
}

// tree parses a text into nodes. It returns nil for a text without any value.
func (s source) tree() (*node, *Error) {
	if root, err, ok := s.jsonTree(); ok {
		return root, err
	}
	return s.yamlTree()
}

func (s source) yamlTree() (root *node, err *Error) {
	defer func() {
		if r := recover(); r != nil { // a fault of the parser must not end a running server
			root, err = nil, s.errorf(position{}, "this cannot be read as YAML: %v", r)
		}
	}()
	if len(s.text) > maxWhole {
		return nil, s.errorf(position{}, "%d bytes are too many for one piece of YAML (at most %d): write %s as blocks, without anchors",
			len(s.text), maxWhole, keyServices)
	}
	tokens := lexer.Tokenize(string(s.text))
	if err := s.checkTokens(tokens); err != nil {
		return nil, err
	}
	file, fault := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if fault != nil {
		return nil, s.syntaxError(fault)
	}
	b := builder{source: s, anchors: make(map[string]*node)}
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil:
		case root != nil:
			return nil, s.errorf(first(doc.Body), "a second YAML document begins here: the configuration is one")
		default:
			if root, err = b.build(doc.Body); err != nil {
				return nil, err
			}
		}
	}
	return root, nil
}

// builder turns the parser's nodes into those of this package.
type builder struct {
	source
	anchors map[string]*node
	aliased int // values that aliases stand for
}

// build is bounded by maxDepth: see checkTokens.
func (b *builder) build(n ast.Node) (*node, *Error) {
	at := first(n)
	switch n := n.(type) {
	case *ast.NullNode:
		return &node{at: at, kind: null, size: 1}, nil
	case *ast.StringNode:
		return &node{at: at, kind: scalar, text: n.Value, size: 1}, nil
	case *ast.LiteralNode:
		return &node{at: place(n.Start), kind: scalar, text: n.Value.Value, size: 1}, nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return &node{at: at, kind: scalar, text: n.GetToken().Value, size: 1}, nil
	case *ast.SequenceNode:
		return b.buildList(at, n)
	case *ast.MappingNode:
		return b.buildMapping(at, n.Values)
	case *ast.MappingValueNode:
		return b.buildMapping(at, []*ast.MappingValueNode{n})
	case *ast.AnchorNode:
		value, err := b.build(n.Value)
		if err == nil {
			b.anchors[n.Name.GetToken().Value] = value
		}
		return value, err
	case *ast.AliasNode:
		return b.resolve(at, n.Value.GetToken().Value)
	}
	return nil, b.errorf(at, "this form of YAML has no use here")
}

func (b *builder) buildList(at position, n *ast.SequenceNode) (*node, *Error) {
	out := &node{at: at, kind: list, items: make([]*node, 0, len(n.Values)), size: 1}
	for _, v := range n.Values {
		if word, ok := wordWithColon(v); ok {
			out.items = append(out.items, &node{at: first(v), kind: scalar, text: word, size: 1})
			out.size++
			continue
		}
		item, err := b.build(v)
		if err != nil {
			return nil, err
		}
		out.items = append(out.items, item)
		out.size += item.size
	}
	return out, nil
}

// wordWithColon returns the word that the parser has taken for a mapping: within braces it splits [10.0.0.1:80], where YAML
// wants a blank behind the colon of a key.
func wordWithColon(n ast.Node) (string, bool) {
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) == 1 {
		n = m.Values[0]
	}
	entry, ok := n.(*ast.MappingValueNode)
	if !ok || !isPlain(entry.Key) || !isPlain(entry.Value) {
		return "", false
	}
	key, colon, value := entry.Key.GetToken(), entry.Start, entry.Value.GetToken()
	at := place(key)
	at.column += utf8.RuneCountInString(key.Value)
	if at != place(colon) {
		return "", false
	}
	at.column++
	return key.Value + ":" + value.Value, at == place(value)
}

// isPlain reports whether a node is a word without quotes.
func isPlain(n ast.Node) bool {
	if _, ok := n.(ast.ScalarNode); !ok {
		return false
	}
	quote := n.GetToken().Type
	return quote != token.SingleQuoteType && quote != token.DoubleQuoteType
}

func (b *builder) buildMapping(at position, values []*ast.MappingValueNode) (*node, *Error) {
	out := &node{at: at, kind: mapping, entries: make([]entry, 0, len(values)), size: 1}
	seen := make(map[string]position, len(values))
	var merged []*node
	for _, v := range values {
		at := place(v.Key.GetToken())
		value, err := b.build(v.Value)
		if err != nil {
			return nil, err
		}
		out.size += value.size
		if v.Key.IsMergeKey() {
			merged = append(merged, value)
			continue
		}
		if _, ok := v.Key.(ast.ScalarNode); !ok {
			return nil, b.errorf(at, "a key is a word")
		}
		key := v.Key.GetToken().Value
		if err := b.once(seen, key, at); err != nil {
			return nil, err
		}
		out.entries = append(out.entries, entry{key, at, value})
	}
	for _, m := range merged {
		if err := b.merge(out, seen, m); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// once refuses a key that a mapping has already.
func (b *builder) once(seen map[string]position, key string, at position) *Error {
	if before, twice := seen[key]; twice {
		return b.errorf(at, "key %q is given twice (before: line %d)", key, b.above+before.line)
	}
	seen[key] = at
	return nil
}

// merge adds the entries of a mapping, or of each of a list, whose keys are not given.
func (b *builder) merge(to *node, seen map[string]position, from *node) *Error {
	sources := from.items
	if from.kind == mapping {
		sources = []*node{from}
	}
	if len(sources) == 0 {
		return b.errorf(from.at, "<< merges a mapping or a list of them, not %s", from.kind)
	}
	for _, m := range sources {
		if m.kind != mapping {
			return b.errorf(m.at, "<< merges mappings, not %s", m.kind)
		}
		for _, e := range m.entries {
			if _, given := seen[e.key]; !given {
				seen[e.key] = e.at
				to.entries = append(to.entries, e)
			}
		}
	}
	return nil
}

// resolve returns the value of an anchor.
func (b *builder) resolve(at position, name string) (*node, *Error) {
	n, ok := b.anchors[name]
	if !ok {
		return nil, b.errorf(at, "no anchor &%s stands above this alias", name)
	}
	if b.aliased += n.size; b.aliased > maxAliased {
		return nil, b.errorf(at, "the aliases stand for more than %d values", maxAliased)
	}
	return n, nil
}

// checkTokens refuses what the parser cannot bound, and forms of YAML without a use here.
func (s source) checkTokens(tokens token.Tokens) *Error {
	var columns []int // of the blocks that are open
	flow, before := 0, &token.Token{Position: &token.Position{}}
	for _, t := range tokens {
		switch t.Type {
		case token.CommentType:
			continue
		case token.TagType:
			hint := ""
			if t.Value == "!" {
				hint = " (a rule that begins with ! stands in quotes)"
			}
			return s.errorf(place(t), "tags such as %s have no use here%s", t.Value, hint)
		case token.MappingKeyType:
			return s.errorf(place(t), "a key is a word, without ? before it")
		case token.DirectiveType:
			return s.errorf(place(t), "directives such as %%YAML have no use here")
		case token.AnchorType:
			if before.Type == token.AnchorType {
				return s.errorf(place(t), "a value has one anchor")
			}
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType, token.MappingValueType:
			column := t.Position.Column
			if t.Type == token.MappingValueType {
				column = before.Position.Column // of its key
			}
			for len(columns) > 0 && columns[len(columns)-1] >= column {
				columns = columns[:len(columns)-1]
			}
			columns = append(columns, column)
		}
		// A list may stand in the column of its key: then two levels count as one.
		if flow > maxDepth || len(columns) > maxDepth {
			return s.tooDeep(place(t))
		}
		before = t
	}
	return nil
}

func (s source) tooDeep(at position) *Error {
	return s.errorf(at, "values are nested deeper than %d levels", maxDepth)
}

// slips are frequent causes of a line that is not YAML.
var slips = []struct {
	pattern *regexp.Regexp
	hint    string
}{
	{regexp.MustCompile(`(^|[ \[,])\{\{`), "a template stands in quotes"},
	{regexp.MustCompile(`(^|[ \[,])\[[0-9a-fA-F:.%]*:[^ ]*\]:`), "an IPv6 address stands in quotes"},
	{regexp.MustCompile(`[\[,] *:[0-9]`), "an address that begins with a colon stands in quotes within braces"},
	{regexp.MustCompile(`^ *(- )?[a-z-]+:[^ ]`), "a blank follows the colon of a key"},
}

// syntaxError returns the error of a text that is not YAML.
func (s source) syntaxError(fault error) *Error {
	var detailed interface {
		GetMessage() string
		GetToken() *token.Token
	}
	if !errors.As(fault, &detailed) || detailed.GetToken() == nil {
		return s.errorf(position{}, "%v", fault)
	}
	at := place(detailed.GetToken())
	line := s.line(at.line)
	if tab := strings.IndexByte(line, '\t'); tab >= 0 && strings.TrimLeft(line[:tab], " ") == "" {
		return s.errorf(position{at.line, tab + 1}, "a tab cannot indent a line: YAML indents with spaces")
	}
	reason := detailed.GetMessage()
	for _, slip := range slips {
		if slip.pattern.MatchString(line) {
			reason += " (" + slip.hint + ")"
			break
		}
	}
	return s.errorf(at, "%s", reason)
}

func place(t *token.Token) position {
	if t == nil || t.Position == nil {
		return position{}
	}
	return position{t.Position.Line, t.Position.Column}
}

// first returns where a value begins; the token of a mapping is its colon.
func first(n ast.Node) position {
	switch n := n.(type) {
	case *ast.MappingValueNode:
		return place(n.Key.GetToken())
	case *ast.MappingNode:
		if len(n.Values) > 0 {
			return place(n.Values[0].Key.GetToken())
		}
	}
	return place(n.GetToken())
}

// want returns an error unless a value is of a kind.
func (s source) want(n *node, want kind, of string) *Error {
	if n.kind == want {
		return nil
	}
	return s.errorf(n.at, "%s", fmt.Sprintf("%s must be %s, not %s", of, want, n.kind))
}
