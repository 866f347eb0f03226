package folder

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"usher/internal/nearest"
)

// withHint adds to a message about an unknown field of a type the known one that was most likely meant.
func withHint(message string, object reflect.Type) string {
	quoted, is := strings.CutPrefix(message, "unknown field ")
	if !is {
		return message
	}
	path, err := strconv.Unquote(quoted)
	if err != nil {
		return message
	}
	parts := strings.Split(path, ".")
	last := len(parts) - 1
	for _, part := range parts[:last] {
		name, _, _ := strings.Cut(part, "[")
		field, is := fieldsOf(object)[name]
		if !is {
			return message
		}
		object = field
	}
	var names []string
	for name := range fieldsOf(object) {
		names = append(names, name)
	}
	near := nearestField(parts[last], names)
	if near == "" {
		return message
	}
	return fmt.Sprintf("%s (did you mean %q?)", message, near)
}

// nearestField is nearest.Word of fields, whatever the case of their letters.
func nearestField(word string, names []string) string {
	lower := make([]string, len(names))
	for i, name := range names {
		if strings.EqualFold(name, word) {
			return name
		}
		lower[i] = strings.ToLower(name)
	}
	near := nearest.Word(strings.ToLower(word), lower)
	for i := range names {
		if lower[i] == near {
			return names[i]
		}
	}
	return ""
}

// fieldsOf returns the fields of what a type holds in the end, by their names in JSON.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	fields := make(map[string]reflect.Type)
	if t.Kind() != reflect.Struct {
		return fields
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			for inner, of := range fieldsOf(f.Type) {
				fields[inner] = of
			}
		case f.IsExported() && name != "" && name != "-":
			fields[name] = f.Type
		}
	}
	return fields
}
