package folder

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	serializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/validation"

	"usher/internal/kube/objects"
	"usher/internal/kube/planner"
)

// object is one object of a file, with the defaults of the API.
type object struct {
	at   string // where it is in its file, such as "document 2"
	kind string
	key  planner.Key
	metav1.Object
}

// id is what no two objects share.
type id struct {
	kind string
	key  planner.Key
}

func (o object) id() id { return id{o.kind, o.key} }

// String returns the kind and the name.
func (o object) String() string { return describe(o.kind, o.key) }

func describe(kind string, key planner.Key) string {
	if key.Namespace == "" {
		return kind + " " + key.Name
	}
	return kind + " " + key.String()
}

// parsed is what a file holds.
type parsed struct {
	objects  []object
	warnings []string
	ignored  []string // the kinds that are passed over
}

// decoder reads objects strictly. It knows the kinds that usher plans by.
type decoder struct{ serializer *serializer.Serializer }

func newDecoder() decoder {
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.Service{}, &corev1.Node{}, &oldEndpoints{})
	scheme.AddKnownTypes(discoveryv1.SchemeGroupVersion, &discoveryv1.EndpointSlice{})
	return decoder{serializer.NewSerializerWithOptions(serializer.DefaultMetaFactory, scheme, scheme, serializer.SerializerOptions{Strict: true})}
}

// parse reads the objects of a file. An error means that the file is not used at all.
func (d decoder) parse(name string, text []byte) (parsed, error) {
	var p parsed
	documents, err := split(name, text)
	if err != nil {
		return p, err
	}
	for _, doc := range documents {
		if err := d.parseDocument(&p, doc); err != nil {
			return parsed{}, err
		}
	}
	return p, nil
}

// parseDocument adds the object of a document, or those of a list.
func (d decoder) parseDocument(p *parsed, doc document) error {
	at := fmt.Sprintf("document %d", doc.number)
	var list struct {
		metav1.TypeMeta `json:",inline"`
		Items           []json.RawMessage `json:"items"`
	}
	err := json.Unmarshal(doc.json, &list)
	if err != nil && (list.Kind == "" || strings.HasSuffix(list.Kind, "List")) {
		return fmt.Errorf("%s: %s", at, explain(err))
	}
	kind, isList := strings.CutSuffix(list.Kind, "List")
	if !isList {
		return d.add(p, at, doc.json, nil)
	}
	var typed *schema.GroupVersionKind // items of a typed list need not say what they are
	if kind != "" {
		typed = new(schema.FromAPIVersionAndKind(list.APIVersion, kind))
	}
	for i, item := range list.Items {
		if err := d.add(p, fmt.Sprintf("%s, item %d", at, i+1), item, typed); err != nil {
			return err
		}
	}
	return nil
}

// add adds one object, or passes it over.
func (d decoder) add(p *parsed, at string, text []byte, defaults *schema.GroupVersionKind) error {
	decoded, gvk, err := d.serializer.Decode(text, defaults, nil)
	if gvk != nil && runtime.IsNotRegisteredError(err) {
		p.ignore(at, *gvk)
		return nil
	}
	kind := "object"
	if gvk != nil && gvk.Kind != "" {
		kind = gvk.Kind
	}
	strict, isStrict := runtime.AsStrictDecodingError(err)
	if err != nil && !isStrict {
		return fmt.Errorf("%s: %s: %s", at, describe(kind, nameOf(text)), explain(err))
	}
	o := object{at: at, kind: kind, Object: decoded.(metav1.Object)}
	if kind == "Node" {
		o.SetNamespace("")
	} else if o.GetNamespace() == "" {
		o.SetNamespace(metav1.NamespaceDefault)
	}
	o.key = objects.KeyOf(o)
	if err := checkName(o); err != nil {
		return fmt.Errorf("%s: %s: %w", at, o, err)
	}
	if isStrict {
		for _, err := range strict.Errors() {
			p.warnings = append(p.warnings, fmt.Sprintf("%s: %s: %s", at, o, withHint(err.Error(), reflect.TypeOf(decoded))))
		}
	}
	if missing := setDefaults(decoded); missing != "" {
		p.warnings = append(p.warnings, fmt.Sprintf("%s: %s: %s", at, o, missing))
	}
	p.objects = append(p.objects, o)
	return nil
}

// ignore passes over an object of another kind. One of another version of a known kind is told.
func (p *parsed) ignore(at string, gvk schema.GroupVersionKind) {
	want := ""
	switch {
	case gvk.Kind == "EndpointSlice" && gvk.Group == discoveryv1.GroupName:
		want = discoveryv1.SchemeGroupVersion.String()
	case gvk.Group == "" && (gvk.Kind == "Service" || gvk.Kind == "Node" || gvk.Kind == "Endpoints"):
		want = corev1.SchemeGroupVersion.String()
	default:
		p.ignored = append(p.ignored, gvk.Kind)
		return
	}
	p.warnings = append(p.warnings, fmt.Sprintf("%s: %s of apiVersion %s is passed over: write %s", at, gvk.Kind, gvk.GroupVersion(), want))
}

// checkName reports a name that no API server takes.
func checkName(o object) error {
	check := validation.IsDNS1123Subdomain
	if o.kind == "Service" || o.kind == "Endpoints" {
		check = validation.IsDNS1123Label // it is the name of a Service
	}
	if o.key.Name == "" {
		return errors.New("metadata.name: give it a name")
	}
	if problems := check(o.key.Name); len(problems) > 0 {
		return fmt.Errorf("metadata.name: %s", problems[0])
	}
	if o.key.Namespace == "" {
		return nil
	}
	if problems := validation.IsDNS1123Label(o.key.Namespace); len(problems) > 0 {
		return fmt.Errorf("metadata.namespace: %s", problems[0])
	}
	return nil
}

// nameOf returns the name of an object that cannot be decoded, as far as it has one.
func nameOf(text []byte) planner.Key {
	var o struct {
		Metadata struct{ Name, Namespace string } `json:"metadata"`
	}
	_ = json.Unmarshal(text, &o)
	if o.Metadata.Name == "" {
		return planner.Key{Name: "without a name"}
	}
	if o.Metadata.Namespace == "" {
		o.Metadata.Namespace = metav1.NamespaceDefault
	}
	return planner.Key{Namespace: o.Metadata.Namespace, Name: o.Metadata.Name}
}

// explain puts an error of a decoder into words about the field.
func explain(err error) string {
	if wrong, is := errors.AsType[*json.UnmarshalTypeError](err); is {
		if wrong.Field == "" {
			return fmt.Sprintf("this is a JSON %s, not an object", wrong.Value)
		}
		return fmt.Sprintf("%s: give %s in place of this %s", wrong.Field, typeWord(wrong.Type), wrong.Value)
	}
	if runtime.IsMissingKind(err) {
		return "kind: give the kind, such as Service"
	}
	if runtime.IsMissingVersion(err) {
		return "apiVersion: give the version, such as v1"
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

// typeWord names a type as the API's documentation does.
func typeWord(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	}
	return "a number"
}
