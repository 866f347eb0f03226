package folder

import (
	"fmt"
	"strings"
	"testing"
)

const (
	service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"
	slice   = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-1, labels: {kubernetes.io/service-name: web}}\naddressType: IPv4\nendpoints: []\n"
)

// TestParse: the objects of a file, in order, then what is told about them.
func TestParse(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		file, text string // file is a.yaml if it is empty
		want       string
	}{
		"nothing":               {want: ""},
		"comments":              {text: "# nothing\n---\n# more\n---\n", want: ""},
		"one":                   {text: service, want: "Service default/web"},
		"several":               {text: service + "---\n" + slice + "--- # last\napiVersion: v1\nkind: Node\nmetadata: {name: n.1}", want: "Service default/web | EndpointSlice default/web-1 | Node n.1"},
		"marker first":          {text: "---\n" + service, want: "Service default/web"},
		"text after the marker": {text: "--- {apiVersion: v1, kind: Service, metadata: {name: web}}", want: "Service default/web"},
		"lines of Windows":      {text: strings.ReplaceAll(service+"---\n"+slice, "\n", "\r\n"), want: "Service default/web | EndpointSlice default/web-1"},
		"mark of UTF-8":         {text: "\ufeff" + service, want: "Service default/web"},
		"dashes in a text":      {text: service + "spec: {externalName: '---x'}\n", want: "Service default/web"},
		"a namespace":           {text: "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: prod}", want: "Service prod/web"},
		"other kinds":           {text: "apiVersion: apps/v1\nkind: Deployment\nspec: {any: 1}\n---\n" + service, want: "Service default/web"},
		"old version": {text: "apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\n",
			want: "document 1: EndpointSlice of apiVersion discovery.k8s.io/v1beta1 is passed over: write discovery.k8s.io/v1"},
		"List": {text: "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: a}}\n- {apiVersion: v1, kind: Secret}\n- {apiVersion: v1, kind: Endpoints, metadata: {name: a}}",
			want: "Service default/a | Endpoints default/a"},
		"ServiceList":   {text: "apiVersion: v1\nkind: ServiceList\nitems: [{metadata: {name: a}}, {metadata: {name: b}}]", want: "Service default/a | Service default/b"},
		"list of lists": {text: "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: List, items: []}]", want: ""},
		"JSON": {file: "a.json", text: `{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"}}{"apiVersion":"v1","kind":"Service","metadata":{"name":"b"}}`,
			want: "Service default/a | Service default/b"},
		"unknown field": {text: service + "spec: {ports: [{prot: 80, name: x}]}",
			want: `Service default/web | document 1: Service default/web: unknown field "spec.ports[0].prot" (did you mean "port"?)`},
		"unknown field of a kind": {text: service + "spex: {}",
			want: `Service default/web | document 1: Service default/web: unknown field "spex" (did you mean "spec"?)`},
		"case of a field": {text: service + "spec: {clusterIp: 10.0.0.1}",
			want: `Service default/web | document 1: Service default/web: unknown field "spec.clusterIp" (did you mean "clusterIP"?)`},
		"field of nothing": {text: service + "spec: {zzzzzzzzz: 1}", want: `Service default/web | document 1: Service default/web: unknown field "spec.zzzzzzzzz"`},
		"slice without a label": {text: "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: x}\naddressType: IPv4\nendpoints: []",
			want: "EndpointSlice default/x | document 1: EndpointSlice default/x: it belongs to no Service: give it the label kubernetes.io/service-name"},

		"key twice":          {text: service + "spec: {}\nspec: {}", want: `error: document 1: line 5: key "spec" already set in map`},
		"no YAML":            {text: service + "---\na: b\n  c: d\n", want: "error: document 2: line 6: mapping values are not allowed in this context"},
		"no JSON":            {file: "a.json", text: "{} {", want: "error: document 2: unexpected EOF"},
		"no object":          {text: "- 1\n", want: "error: document 1: this is a JSON array, not an object"},
		"no kind":            {text: "apiVersion: v1\nmetadata: {name: web}", want: "error: document 1: object default/web: kind: give the kind, such as Service"},
		"no version":         {text: "kind: Service\nmetadata: {name: web}", want: "error: document 1: Service default/web: apiVersion: give the version, such as v1"},
		"no name":            {text: "apiVersion: v1\nkind: Service", want: "error: document 1: Service default/: metadata.name: give it a name"},
		"wrong name":         {text: "apiVersion: v1\nkind: Service\nmetadata: {name: a/b}", want: "error: document 1: Service default/a/b: metadata.name: a lowercase RFC 1123 label must consist of"},
		"wrong namespace":    {text: "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: a.b}", want: "error: document 1: Service a.b/a: metadata.namespace: "},
		"wrong type":         {text: service + "spec: {ports: [{port: http}]}", want: "error: document 1: Service default/web: spec.ports.port: give a number in place of this string"},
		"a boolean of YAML":  {text: "apiVersion: v1\nkind: Node\nmetadata: {name: n}", want: "error: document 1: Node without a name: metadata.name: give a string in place of this bool"},
		"wrong type of list": {text: "apiVersion: v1\nkind: List\nitems: {}", want: "error: document 1: items: give a list in place of this object"},
		"number too large":   {text: service + "spec: {ports: [{port: 99999999999}]}", want: "error: document 1: Service default/web: spec.ports.port: give a number in place of this number 99999999999"},
		"second of a list": {text: "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Service, metadata: {name: a}}, {apiVersion: v1, kind: Service, spec: []}]",
			want: "error: document 1, item 2: Service without a name: spec: give an object in place of this array"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.file == "" {
				test.file = "a.yaml"
			}
			p, err := newDecoder().parse(test.file, []byte(test.text))
			var got []string
			for _, o := range p.objects {
				got = append(got, o.String())
			}
			text := strings.Join(append(got, p.warnings...), " | ")
			if err != nil {
				text = "error: " + err.Error()
			}
			if text != test.want && (err == nil || !strings.HasPrefix(text, test.want) || test.want == "") {
				t.Errorf("got  %s\nwant %s", text, test.want)
			}
		})
	}
}

// TestParseMany: the cost of a file is linear in its documents.
func TestParseMany(t *testing.T) {
	t.Parallel()
	p, err := newDecoder().parse("a.yaml", []byte(strings.Repeat("---\n"+service, 500)))
	if err != nil || len(p.objects) != 500 || p.objects[499].at != "document 500" {
		t.Errorf("%d objects: %v", len(p.objects), err)
	}
	if _, err := newDecoder().parse("a.json", []byte(strings.Repeat("1 ", maxDocuments+1))); err == nil {
		t.Error("there is no bound")
	}
}

// FuzzParse: whatever a file holds, it is read or refused, and each object of it has a name and can be mirrored.
func FuzzParse(f *testing.F) {
	for _, text := range []string{service, slice, "a: &a [x]\nb: [*a, *a]", "--- |\n---\n", "kind: List\nitems: [1]", "apiVersion: v1\nkind: EndpointsList\nitems: [{metadata: {name: a}, subsets: [{addresses: [{ip: '::'}]}]}]"} {
		f.Add(text, false)
		f.Add(text, true)
	}
	f.Fuzz(func(t *testing.T, text string, isJSON bool) {
		name := "a.yaml"
		if isJSON {
			name = "a.json"
		}
		p, err := newDecoder().parse(name, []byte(text))
		if err != nil && len(p.objects) > 0 {
			t.Errorf("objects of a file with an error: %v", p.objects)
		}
		for _, o := range p.objects {
			if o.key.Name == "" || strings.ContainsAny(o.key.String(), " \n:") {
				t.Errorf("the name %q", fmt.Sprint(o))
			}
		}
		contents{}.merge(map[string]*file{name: {objects: p.objects}})
	})
}
