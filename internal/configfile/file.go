// Package configfile reads and writes plans of package config as YAML, and watches the file that holds one.
//
//	Load, Parse ─▶ File{Services, Options}      usher.yaml
//	DecodeService, DecodeChange, DecodeBackend  the body of a request: the same mappings, also as JSON
//	Encode, EncodeService                       the way back
//
// Keys are the names of the options in package config; their tables are walked, not copied. A mistake is an *Error with
// its place in the text. A service that did not change since the previous load keeps its pointer.
package configfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"syscall"
	"time"
	"unicode/utf8"

	"usher/internal/config"
)

const (
	// maxFile bounds the size of a file, in bytes.
	maxFile = 64 << 20
	// spareText is the part of a text by which the next one may be longer in the same memory.
	spareText = 64
	// readTimeout bounds how long a pipe may take to deliver one.
	readTimeout = 10 * time.Second
)

// File is a configuration file as it was read. Only Reuse changes it.
type File struct {
	Path     string
	Services []*config.Service // in the order of the file; each is checked by itself, and must not be changed
	Options  []Option          // of the process; each is valid
	Rules    *config.Rules     // nil: none

	decoder                     // of the text
	parts   []part              // of each service; nil: the text was parsed as a whole
	given   map[string]position // the values of the top level
	words   ruleWords           // of the text
	room    room                // of the next load; see Reuse
}

// room is memory for a text and its parts.
type room struct {
	text  []byte
	parts []part
}

// Option is an option of the process with its value.
type Option struct {
	Name  config.Field
	Value string
}

// Load reads and checks a file. Services that are as in the previous load, if there is one, are those of it. What
// services say about each other, such as an address that two of them listen on, is for the caller to check, since other
// sources have services too; Locate then finds the place. The error is an *Error.
func Load(path string, previous *File) (*File, error) {
	text, err := read(path, previous.nextRoom().text)
	if err != nil {
		reason := err.Error()
		if e, ok := errors.AsType[*fs.PathError](err); ok {
			reason = e.Err.Error()
		}
		return nil, &Error{File: path, Reason: reason, cause: err}
	}
	return Parse(path, text, previous)
}

// Reuse gives the memory of an old file's text to the next load after f, so that reloads of a large file leave no garbage
// of its size. The old file must not be used any more, nor a load after f once another one begins.
func (f *File) Reuse(old *File) {
	if old != nil {
		f.room = room{old.text, old.parts}
		old.text, old.parts, old.room = nil, nil, room{}
	}
}

// nextRoom returns the room of the next load; f may be nil.
func (f *File) nextRoom() room {
	if f == nil {
		return room{}
	}
	return f.room
}

// read returns the contents of a file of limited size, in room if that is large enough. The open does not wait for the
// writer of a named pipe, which may never come: it would hold up the end of the process.
func read(path string, room []byte) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	_ = f.SetReadDeadline(time.Now().Add(readTimeout)) // a regular file has none
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, errors.New("this is a directory, not a file")
	}
	tooLarge := fmt.Errorf("the file is larger than %d MiB", maxFile>>20)
	if info.Size() > maxFile {
		return nil, tooLarge
	}
	if size := info.Size() + bytes.MinRead; int64(cap(room)) < size {
		room = make([]byte, 0, size+size/spareText)
	}
	text := bytes.NewBuffer(room[:0])
	if _, err := text.ReadFrom(io.LimitReader(f, maxFile+1)); err != nil {
		return nil, err
	}
	if text.Len() > maxFile { // a pipe has no size, and a file may grow
		return nil, tooLarge
	}
	return text.Bytes(), nil
}

// Parse is Load of a text that is named like the file it is from.
func Parse(path string, text []byte, previous *File) (*File, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // of an editor that marks UTF-8
	if bytes.IndexByte(text, '\r') >= 0 {
		text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	}
	f := &File{Path: path, decoder: newDecoder(source{file: path, text: text})}
	if err := f.parse(previous); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *File) parse(previous *File) *Error {
	if err := f.checkText(); err != nil {
		return err
	}
	if err := f.parseTree(previous); err != nil {
		return err
	}
	return f.parseRules(previous)
}

// parseTree reads services and options, and the words of rules.
func (f *File) parseTree(previous *File) *Error {
	f.given = make(map[string]position)
	before := newEarlier(previous)
	if parts, ok := cut(f.text, previous.nextRoom().parts); ok {
		if ok, err := f.parseParts(parts, before); ok || err != nil {
			return err
		}
	}
	root, err := f.tree()
	if err != nil {
		return err
	}
	if root == nil || root.kind == null {
		return f.errorf(position{}, "the file is empty (a file without services has services: {})")
	}
	return f.decode(f.decoder, root, before)
}

// parseParts reads a text part by part. It returns false if a part is not what it seems to be.
func (f *File) parseParts(parts []part, before *earlier) (ok bool, err *Error) {
	f.Services = make([]*config.Service, 0, len(parts))
	f.parts = parts[:0] // those of services
	for _, p := range parts {
		d := f.of(p)
		if p.name == nil {
			root, err := d.tree()
			if err == nil && root != nil {
				err = f.decode(d, root, before)
			}
			if err != nil {
				return false, err
			}
			continue
		}
		s, text, line := before.take(p.name, p.above+1)
		if line > 0 {
			return false, d.errorf(position{1, 1 + bytes.Index(p.text, p.name)}, "key %q is given twice (before: line %d)", p.name, line)
		}
		if s == nil || !bytes.Equal(text, p.text) || bytes.Contains(text, []byte("{{")) {
			root, err := d.tree()
			if err != nil {
				return false, err
			}
			if root == nil || root.kind != mapping || len(root.entries) != 1 || root.entries[0].key != string(p.name) {
				f.Services, f.parts, f.Options, f.words = nil, nil, nil, ruleWords{}
				clear(f.given)
				return false, nil
			}
			if s, err = d.shared(root.entries[0], s); err != nil {
				return false, err
			}
		}
		f.Services = append(f.Services, s)
		f.parts = append(f.parts, p)
	}
	return true, nil
}

// of returns a decoder of a part of the text.
func (f *File) of(p part) decoder {
	d := f.decoder
	d.text, d.above = p.text, p.above
	return d
}

// shared reads a service. It returns the one of the previous load, which may be nil, if they are equal.
func (d decoder) shared(e entry, previous *config.Service) (*config.Service, *Error) {
	s, err := d.service(e.key, e.at, e.value)
	if err == nil && previous != nil && reflect.DeepEqual(previous, s) {
		return previous, nil
	}
	return s, err
}

// earlier finds the services of the previous load by their names. Those in the same order need no map.
type earlier struct {
	file   *File // nil: there is none
	next   int
	byName map[string]int
	lines  []int          // where each was taken; 0: not yet
	fresh  map[string]int // where names were taken that the previous load has not
}

// newEarlier returns what finds the services of a file, which may be nil.
func newEarlier(file *File) *earlier {
	e := &earlier{file: file, fresh: make(map[string]int)}
	if file != nil {
		e.lines = make([]int, len(file.Services))
	}
	return e
}

// take returns the service of a name that stands on a line, nil if there is none, and its text, which is empty in a file
// that was parsed as a whole. For a name that was taken it returns the line of the first time.
func (e *earlier) take(name []byte, line int) (s *config.Service, text []byte, first int) {
	i, known := e.find(name)
	if !known {
		if first = e.fresh[string(name)]; first == 0 {
			e.fresh[string(name)] = line
		}
		return nil, nil, first
	}
	if first = e.lines[i]; first == 0 {
		e.lines[i], e.next = line, i+1
	}
	if e.file.parts != nil {
		text = e.file.parts[i].text
	}
	return e.file.Services[i], text, first
}

// find returns the index of a service.
func (e *earlier) find(name []byte) (i int, known bool) {
	switch {
	case e.file == nil:
		return 0, false
	case e.next < len(e.file.Services) && e.file.Services[e.next].Name == string(name):
		return e.next, true
	case e.byName == nil:
		e.byName = make(map[string]int, len(e.file.Services))
		for i, s := range e.file.Services {
			e.byName[s.Name] = i
		}
	}
	i, known = e.byName[string(name)]
	return i, known
}

// checkText refuses what is not text.
func (s source) checkText() *Error {
	if utf8.Valid(s.text) {
		return nil
	}
	for line, rest := 1, s.text; ; line++ {
		before, after, _ := bytes.Cut(rest, []byte("\n"))
		if !utf8.Valid(before) {
			return s.errorf(position{line, len(bytes.ToValidUTF8(before, nil))}, "this line is not UTF-8 text")
		}
		rest = after
	}
}

// decode reads entries of the top level.
func (f *File) decode(d decoder, root *node, before *earlier) *Error {
	if err := d.want(root, mapping, "the configuration"); err != nil {
		return err
	}
	process := config.DefaultProcess()
	for _, e := range root.entries {
		if at, twice := f.given[e.key]; twice {
			return d.errorf(e.at, "key %q is given twice (before: line %d)", e.key, at.line)
		}
		at := position{d.above + e.value.at.line, e.value.at.column}
		f.given[e.key] = at
		if e.key == keyServices {
			if err := f.decodeServices(d, e.value, before); err != nil {
				return err
			}
			continue
		}
		if e.key == keyRules || e.key == keyPolicy {
			if err := f.decodeRules(d, e); err != nil {
				return err
			}
			continue
		}
		if !config.IsProcessOption(config.Field(e.key)) {
			return d.unknownKey(e, processKeys)
		}
		word, err := d.word(e.value, e)
		if err != nil {
			return err
		}
		if err := process.Set(config.Field(e.key), word); err != nil {
			return d.value(e.value.at, err)
		}
		f.Options = append(f.Options, Option{config.Field(e.key), word})
	}
	return nil
}

func (f *File) decodeServices(d decoder, n *node, before *earlier) *Error {
	if n.kind == null {
		return nil
	}
	if err := d.want(n, mapping, keyServices); err != nil {
		return err
	}
	f.Services = make([]*config.Service, 0, len(n.entries))
	for _, e := range n.entries {
		old, _, _ := before.take([]byte(e.key), d.above+e.at.line)
		s, err := d.shared(e, old)
		if err != nil {
			return err
		}
		f.Services = append(f.Services, s)
	}
	return nil
}
