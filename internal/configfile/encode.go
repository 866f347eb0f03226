package configfile

import (
	"bytes"
	"encoding/json"
	"strings"

	"usher/internal/config"
)

// Encode writes a plan as YAML that Parse reads as the same plan. Options at their default are left out; keys are in the
// order of the tables of package config.
func Encode(plan *config.Config) []byte { return EncodeCommented(plan, Comments{}) }

// plan writes a plan, with comments above services.
func (w *writer) plan(plan *config.Config, comments map[string][]string) {
	defaults := config.DefaultProcess()
	writeOptions(w, 0, config.ProcessOptions(), &plan.Process, &defaults)
	if r := plan.Rules; r != nil {
		if r.Policy != "" {
			w.line(0, keyPolicy, r.Policy)
		}
		if len(r.Lines) > 0 {
			w.words(0, keyRules, r.Lines)
		}
	}
	if len(plan.Services) == 0 {
		w.line(0, keyServices, "{}")
		return
	}
	w.line(0, keyServices, "")
	for _, s := range plan.Services {
		w.comments(1, comments[s.Name])
		w.line(1, s.Name, "")
		w.service(2, s)
	}
}

// EncodeService writes a service as the body that DecodeService reads.
func EncodeService(s *config.Service) []byte {
	var w writer
	w.line(0, keyName, quote(s.Name))
	w.service(0, s)
	return w.Bytes()
}

// writer writes block style.
type writer struct{ bytes.Buffer }

const indentation = "  "

// line writes a key, and its value if it stands in the same line.
func (w *writer) line(depth int, key, value string) {
	w.WriteString(strings.Repeat(indentation, depth))
	w.WriteString(key)
	w.WriteByte(':')
	if value != "" {
		w.WriteByte(' ')
		w.WriteString(value)
	}
	w.WriteByte('\n')
}

// words writes a list of words; a single one stands alone.
func (w *writer) words(depth int, key string, words []string) {
	switch len(words) {
	case 0:
		w.line(depth, key, "[]")
		return
	case 1:
		w.line(depth, key, quote(words[0]))
		return
	}
	w.line(depth, key, "")
	for _, word := range words {
		w.WriteString(strings.Repeat(indentation, depth+1))
		w.WriteString("- ")
		w.WriteString(quote(word))
		w.WriteByte('\n')
	}
}

func (w *writer) service(depth int, s *config.Service) {
	words := make([]string, len(s.Listeners))
	for i, l := range s.Listeners {
		words[i] = l.String()
	}
	w.words(depth, keyListen, words)
	words = make([]string, len(s.Backends))
	for i, b := range s.Backends {
		words[i] = b.String()
	}
	w.words(depth, keyBackends, words)
	writeOptions(w, depth, config.ServiceOptions(), s, s.Defaults())
}

// writeOptions writes the options that are not at their default.
func writeOptions[S any](w *writer, depth int, options []config.Option[S], s, defaults *S) {
	for i := range options {
		o := &options[i]
		text := o.Text(s)
		switch {
		case text == o.Text(defaults):
		case o.Switch:
			w.line(depth, string(o.Name), text)
		default:
			w.line(depth, string(o.Name), quote(text))
		}
	}
}

// plain are the characters of a word that needs no quotes. One with a colon at its end does, and null.
const plain = keyLetters + ":/@=,%+~^<>;()$"

// quote returns a word as a YAML scalar. Every scalar is read as its text, so that a number needs no quotes.
func quote(word string) string {
	isPlain := word != "" && strings.Trim(word, plain) == "" && word[len(word)-1] != ':' && !strings.EqualFold(word, "null") &&
		strings.IndexByte(keyLetters+"/", word[0]) >= 0 && strings.IndexByte("-.", word[0]) < 0
	if isPlain {
		return word
	}
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(word); err != nil {
		panic(err) // a string has no text that JSON lacks
	}
	return strings.TrimSuffix(text.String(), "\n")
}
