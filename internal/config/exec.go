package config

import (
	"errors"
	"fmt"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"
)

// cutCommand splits a command from the options behind it, at the first comma that is neither quoted nor escaped.
func cutCommand(spec string) (command, options string, more bool, err error) {
	words, err := shellWords(spec)
	if err != nil {
		return "", "", false, err
	}
	for _, w := range words {
		for _, part := range w.Parts {
			if _, plain := part.(*syntax.Lit); !plain {
				continue
			}
			begin, end := part.Pos().Offset(), part.End().Offset()
			if before, _, found := cutUnescaped(spec[begin:end], ','); found {
				at := int(begin) + len(before)
				return spec[:at], spec[at+1:], true, nil
			}
		}
	}
	return spec, "", false, nil
}

// splitArgs reads the words of a command, with the quotes and backslashes of a shell. It runs no shell, and refuses all
// other shell syntax.
func splitArgs(command string) ([]string, error) {
	words, err := shellWords(command)
	if err != nil {
		return nil, err
	}
	return expand.Fields(new(expand.Config), words...) // nil is one that all callers write to
}

// joinArgs writes what splitArgs reads, without a comma outside quotes.
func joinArgs(args []string) (string, error) {
	out := make([]string, len(args))
	for i, a := range args {
		quoted, err := syntax.Quote(a, syntax.LangBash)
		if err != nil {
			return "", err
		}
		if quoted == a && strings.Contains(a, ",") {
			quoted = "'" + a + "'"
		}
		out[i] = quoted
	}
	return strings.Join(out, " "), nil
}

// shellWords splits a command into words of plain text.
func shellWords(command string) ([]*syntax.Word, error) {
	var words []*syntax.Word
	end := 0
	for w, err := range syntax.NewParser(syntax.Variant(syntax.LangBash)).WordsSeq(strings.NewReader(command)) {
		if err != nil {
			return nil, parseError(err)
		}
		begin := int(w.Pos().Offset())
		if comment := strings.TrimSpace(command[end:begin]); comment != "" {
			return nil, needsShell(comment)
		}
		end = int(w.End().Offset())
		if braced := *w; syntax.SplitBraces(&braced) {
			return nil, needsShell(command[begin:end])
		}
		for _, part := range w.Parts {
			if x := active(part); x != nil {
				return nil, needsShell(command[x.Pos().Offset():x.End().Offset()])
			}
		}
		words = append(words, w)
	}
	if comment := strings.TrimSpace(command[end:]); comment != "" {
		return nil, needsShell(comment)
	}
	return words, nil
}

// parseError extracts the useful part of a parser's error, without the position in the word.
func parseError(err error) error {
	var failed syntax.ParseError
	if !errors.As(err, &failed) {
		return err
	}
	if sign, ok := strings.CutSuffix(failed.Text, " is not a valid word"); ok {
		return needsShell(strings.Trim(sign, "`"))
	}
	return errors.New(failed.Text)
}

// active returns the part of a word that a shell would replace. It is nil if the part is text, quoted or not.
func active(part syntax.WordPart) syntax.WordPart {
	switch p := part.(type) {
	case *syntax.Lit, *syntax.SglQuoted:
		return nil
	case *syntax.DblQuoted:
		for _, inner := range p.Parts {
			if x := active(inner); x != nil {
				return x
			}
		}
		return nil
	}
	return part
}

func needsShell(what string) error {
	return fmt.Errorf("no shell is run, `%s` has to be quoted or done by one, as in exec:sh -c '…'", what)
}
