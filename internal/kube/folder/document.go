package folder

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// document is one of the documents of a file, as JSON.
type document struct {
	number int // from 1 on
	json   []byte
}

// maxDocuments bounds the documents of a file.
const maxDocuments = 100_000

// split returns the documents of a file, without those that are empty. JSON files hold values one after the other.
func split(name string, text []byte) ([]document, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // of an editor that marks UTF-8
	if filepath.Ext(name) == ".json" {
		return splitJSON(text)
	}
	return splitYAML(text)
}

func splitJSON(text []byte) ([]document, error) {
	var documents []document
	for decoder := json.NewDecoder(bytes.NewReader(text)); ; {
		var value json.RawMessage
		err := decoder.Decode(&value)
		if errors.Is(err, io.EOF) {
			return documents, nil
		}
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", len(documents)+1, err)
		}
		if documents = append(documents, document{len(documents) + 1, value}); len(documents) > maxDocuments {
			return nil, fmt.Errorf("more than %d documents: use several files", maxDocuments)
		}
	}
}

// splitYAML splits at lines that begin with the marker "---". What follows the marker on its line is of the next document.
func splitYAML(text []byte) ([]document, error) {
	if !bytes.HasSuffix(text, []byte("\n")) {
		text = append(text[:len(text):len(text)], '\n')
	}
	var documents []document
	number, line := 1, 0
	start, first, hasText := 0, 0, false // of the current document: its first byte, its first line, and whether it has a text
	for at := 0; at <= len(text); line++ {
		end := at + max(0, bytes.IndexByte(text[at:], '\n'))
		words := bytes.TrimRight(text[at:end], " \t\r")
		isMarker := bytes.HasPrefix(words, []byte("---")) && (len(words) == 3 || words[3] == ' ' || words[3] == '\t')
		if isMarker || at == len(text) {
			if hasText {
				value, err := toJSON(text[start:at], first)
				if err != nil {
					return nil, fmt.Errorf("document %d: %w", number, err)
				}
				if !bytes.Equal(value, []byte("null")) {
					documents = append(documents, document{number, value})
				}
				number++
			}
			if number > maxDocuments {
				return nil, fmt.Errorf("more than %d documents: use several files", maxDocuments)
			}
			start, first, hasText = at, line, false
		}
		hasText = hasText || len(words) > 0 && words[0] != '#' && (!isMarker || len(words) > 3)
		at = end + 1
	}
	return documents, nil
}

// lineWord finds the line of a YAML error, which counts from the start of the document.
var lineWord = regexp.MustCompile(`\bline (\d+)`)

// toJSON translates a document that begins after a number of lines of its file. A key twice is an error of YAML.
func toJSON(text []byte, before int) ([]byte, error) {
	value, err := yaml.YAMLToJSONStrict(text)
	if err == nil {
		return value, nil
	}
	message := err.Error()
	for _, prefix := range []string{"error converting YAML to JSON: ", "yaml: ", "unmarshal errors:\n  "} {
		message = strings.TrimPrefix(message, prefix)
	}
	return nil, errors.New(lineWord.ReplaceAllStringFunc(message, func(word string) string {
		n, err := strconv.Atoi(strings.TrimPrefix(word, "line "))
		if err != nil {
			return word
		}
		return fmt.Sprintf("line %d", n+before)
	}))
}
