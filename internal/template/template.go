// Package template evaluates the templates of go-sockaddr in address words, such as {{ GetPrivateIP }}.
//
// It has text, pipelines, parentheses, strings, numbers, booleans and the dot. text/template also has conditions, loops,
// variables and fields. Its execution calls methods by name, so the linker keeps the exported methods of all types: the
// types of Kubernetes would make the binary 5 MB larger.
package template

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"text/template"
	"text/template/parse"

	"github.com/hashicorp/go-sockaddr"
	sockaddrs "github.com/hashicorp/go-sockaddr/template"
)

// treeName is the name of a template in errors of the parser.
const treeName = "address"

// Evaluate returns the text that a template yields on this machine. An error has one line.
func Evaluate(input string) (string, error) {
	text, err := evaluate(input)
	if err == nil {
		return text, nil
	}
	what := strings.Join(strings.Fields(err.Error()), " ")
	// The parser puts the line before it: template: address:1: function "Foo" not defined.
	if tail, ok := strings.CutPrefix(what, "template: "+treeName+":"); ok {
		_, what, _ = strings.Cut(tail, ": ")
	}
	return "", errors.New(what)
}

func evaluate(input string) (string, error) {
	e := evaluator{"or": or, "print": fmt.Sprint, "printf": fmt.Sprintf, "println": fmt.Sprintln}
	for _, functions := range []template.FuncMap{sockaddrs.SourceFuncs, sockaddrs.SortFuncs, sockaddrs.FilterFuncs, sockaddrs.HelperFuncs} {
		maps.Copy(e, functions)
	}
	trees, err := parse.Parse(treeName, input, "", "", e)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, n := range trees[treeName].Root.Nodes {
		switch n := n.(type) {
		case *parse.TextNode:
			out.Write(n.Text)
		case *parse.ActionNode:
			value, err := e.pipeline(n.Pipe)
			if err != nil {
				return "", err
			}
			fmt.Fprint(&out, value)
		default:
			return "", unsupported(n)
		}
	}
	return out.String(), nil
}

// unsupported is the error of a node that only text/template executes.
func unsupported(n parse.Node) error {
	return fmt.Errorf(`%s is not supported: use functions and pipes alone, such as {{ GetPrivateInterfaces | include "type" "IPv4" | attr "address" }}`, n)
}

// or returns the first argument that is not empty, or else the last one.
func or(first any, others ...any) any {
	for _, other := range others {
		if isTrue, _ := template.IsTrue(first); isTrue {
			break
		}
		first = other
	}
	return first
}

// evaluator has the functions of a template by name.
type evaluator map[string]any

var anyType = reflect.TypeFor[any]()

func (e evaluator) pipeline(p *parse.PipeNode) (any, error) {
	if len(p.Decl) > 0 {
		return nil, unsupported(p)
	}
	var final []any // the value of the command before
	for _, c := range p.Cmds {
		value, err := e.command(c, final)
		if err != nil {
			return nil, err
		}
		final = []any{value}
	}
	return final[0], nil
}

// command evaluates a function with its arguments, or a single value. final is the last argument, if there is one.
func (e evaluator) command(c *parse.CommandNode, final []any) (any, error) {
	if f, ok := c.Args[0].(*parse.IdentifierNode); ok {
		return e.call(f.Ident, c.Args[1:], final)
	}
	if len(c.Args)+len(final) > 1 {
		return nil, fmt.Errorf("%s is not a function and takes no argument", c.Args[0])
	}
	return e.argument(c.Args[0], anyType)
}

// call evaluates the arguments of a function, and calls it.
func (e evaluator) call(name string, args []parse.Node, final []any) (any, error) {
	f := reflect.ValueOf(e[name])
	t := f.Type()
	count, fixed := len(args)+len(final), t.NumIn()
	if t.IsVariadic() {
		fixed--
	}
	if count < fixed || count > fixed && !t.IsVariadic() {
		return nil, fmt.Errorf("%s: wrong number of arguments: %d, not %d", name, count, fixed)
	}
	in := make([]reflect.Value, count)
	for i := range in {
		to := t.In(min(i, t.NumIn()-1))
		if i >= fixed {
			to = to.Elem()
		}
		var value any
		var err error
		if i < len(args) {
			value, err = e.argument(args[i], to)
		} else {
			value = final[0]
		}
		if err != nil {
			return nil, err
		}
		in[i] = reflect.ValueOf(value)
		if !in[i].IsValid() || !in[i].Type().AssignableTo(to) {
			return nil, fmt.Errorf("%s: argument %d is of type %T, not %s", name, i+1, value, to)
		}
	}
	return invoke(name, f, in)
}

// invoke calls a function, whose second result is an error. A panic is an error too, as it is for text/template.
func invoke(name string, f reflect.Value, in []reflect.Value) (value any, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: %v", name, r)
		}
	}()
	out := f.Call(in)
	if len(out) > 1 && !out[1].IsNil() {
		return nil, fmt.Errorf("%s: %w", name, out[1].Interface().(error))
	}
	return out[0].Interface(), nil
}

// argument evaluates a value for a parameter of type to.
func (e evaluator) argument(n parse.Node, to reflect.Type) (any, error) {
	switch n := n.(type) {
	case *parse.StringNode:
		return n.Text, nil
	case *parse.BoolNode:
		return n.True, nil
	case *parse.NumberNode:
		return number(n, to)
	case *parse.DotNode:
		return sockaddr.GetAllInterfaces()
	case *parse.PipeNode:
		return e.pipeline(n)
	case *parse.IdentifierNode:
		return e.call(n.Ident, nil, nil)
	}
	return nil, unsupported(n)
}

// number returns a number of type to, or of its own type if any will do.
func number(n *parse.NumberNode, to reflect.Type) (any, error) {
	v := reflect.New(to).Elem()
	switch {
	case v.CanInt() && n.IsInt && !v.OverflowInt(n.Int64):
		v.SetInt(n.Int64)
	case v.CanUint() && n.IsUint && !v.OverflowUint(n.Uint64):
		v.SetUint(n.Uint64)
	case to == anyType && n.IsInt:
		return int(n.Int64), nil
	case to == anyType && n.IsFloat:
		return n.Float64, nil
	default:
		return nil, fmt.Errorf("%s is not of type %s", n, to)
	}
	return v.Interface(), nil
}
