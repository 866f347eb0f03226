package configfile

import (
	"errors"
	"fmt"
	"slices"

	"usher/internal/config"
)

// Locate adds to a *config.Error about a service of the file, or about an option of the process, its place in the file.
// It returns any other error as it is. The part of the text is parsed again, so that a good file keeps no places.
func (f *File) Locate(err error) error {
	e, ok := errors.AsType[*config.Error](err)
	if _, located := errors.AsType[*Error](err); !ok || located {
		return err
	}
	if e.Service == "" {
		if at, ok := f.given[spell(e.Field)]; ok {
			return f.value(at, e)
		}
		return err
	}
	d, places := f.places(e)
	if places == nil {
		return err
	}
	located := d.value(places[len(places)-1], e)
	if e.Other != "" {
		d, others := f.places(&config.Error{Service: e.Other, Field: e.Field, Value: e.OtherValue})
		if others != nil && (e.Other != e.Service || e.OtherValue != e.Value || len(others) > 1) {
			located.Reason += fmt.Sprintf(" (the other: line %d)", d.above+others[0].line)
		}
	}
	return located
}

// places returns where a service of the file has a value, and the decoder whose text that is. It is nil for a service of
// another source.
func (f *File) places(e *config.Error) (decoder, []position) {
	i := slices.IndexFunc(f.Services, func(s *config.Service) bool { return s.Name == e.Service })
	if i < 0 {
		return f.decoder, nil
	}
	d := f.decoder
	if f.parts != nil {
		d = f.of(f.parts[i])
	}
	root, err := d.tree()
	if err != nil || root == nil {
		return d, nil
	}
	if f.parts == nil {
		root = root.get(keyServices)
	}
	for _, entry := range root.entries {
		if entry.key == e.Service {
			return d, d.find(f.Services[i], entry.at, entry.value, e)
		}
	}
	return d, nil
}
