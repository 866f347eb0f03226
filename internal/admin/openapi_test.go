package admin

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/control"
	"usher/internal/ipvsadm"
)

type object = map[string]any

// document is openapi.yaml, decoded.
var document = sync.OnceValues(func() (o object, err error) {
	return o, yaml.Unmarshal(api.Description(), &o)
})

// at returns what is at a path of keys, behind references.
func at(t *testing.T, v any, keys ...string) any {
	t.Helper()
	for _, key := range append(keys, "") {
		for {
			to, ok := v.(object)["$ref"].(string)
			if !ok {
				break
			}
			root, _ := document()
			v = at(t, root, strings.Split(strings.TrimPrefix(to, "#/"), "/")...)
		}
		if key == "" {
			break
		}
		next, ok := v.(object)[key]
		if !ok {
			t.Fatalf("openapi.yaml has nothing at %s", strings.Join(keys, " "))
		}
		if v = next; reflect.TypeOf(v) != reflect.TypeFor[object]() {
			return v
		}
	}
	return v
}

func sortedKeys(v any) []string { return slices.Sorted(maps.Keys(v.(object))) }

// describedStatuses returns the statuses that openapi.yaml says of a route, default left out.
func describedStatuses(t testing.TB, method, path string) []string {
	root, err := document()
	if err != nil {
		t.Fatal(err)
	}
	operation, ok := root["paths"].(object)[path].(object)[strings.ToLower(method)].(object)
	if !ok {
		t.Fatalf("openapi.yaml does not describe %s %s", method, path)
	}
	return sortedKeys(operation["responses"])
}

// TestDescriptionOfRoutes: openapi.yaml has the paths, methods, parameters and bodies of the routes, and no others.
func TestDescriptionOfRoutes(t *testing.T) {
	t.Parallel()
	root, err := document()
	if err != nil {
		t.Fatal(err)
	}
	described, want := make(map[string][]string), make(map[string][]string) // what a method and a path take
	for path, item := range root["paths"].(object) {
		for method, operation := range item.(object) {
			if method == "parameters" {
				continue
			}
			var takes []string
			of := operation.(object)
			shared, _ := item.(object)["parameters"].([]any)
			own, _ := of["parameters"].([]any)
			for _, p := range append(slices.Clone(shared), own...) {
				takes = append(takes, at(t, p, "in").(string)+" "+at(t, p, "name").(string))
			}
			if body, ok := of["requestBody"]; ok {
				takes = append(takes, "body")
				at(t, body, "content")
			}
			for status := range of["responses"].(object) {
				at(t, of["responses"], status, "description")
			}
			slices.Sort(takes)
			described[strings.ToUpper(method)+" "+path] = takes
		}
	}
	for _, r := range routes {
		var takes []string
		for _, name := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(r.path, -1) {
			takes = append(takes, "path "+name[1])
		}
		query := r.query
		if r.isFlowQuery {
			query = control.FlowParameters()
		}
		for _, name := range query {
			takes = append(takes, "query "+name)
		}
		if r.hasBody {
			takes = append(takes, "body")
		}
		slices.Sort(takes)
		want[r.method+" "+r.path] = takes
	}
	if diff := cmp.Diff(want, described); diff != "" {
		t.Errorf("openapi.yaml and the routes differ (-routes +openapi.yaml):\n%s", diff)
	}
}

// TestDescriptionOfTypes: the schemas have the fields of the types, and those without omitempty are required.
func TestDescriptionOfTypes(t *testing.T) {
	t.Parallel()
	types := []any{
		api.Services{}, api.Snapshot{}, api.Service{}, api.Virtual{}, api.Backend{}, api.Flow{}, api.Event{}, api.Process{}, api.Override{},
		api.Rules{}, api.Chain{}, api.Rule{}, api.RuleLines{}, api.Killed{}, api.FlowEvent{}, api.Rebalance{}, api.Rebalanced{}, api.Upgrade{}, api.Stop{}, api.Error{},
		api.Lines{}, api.LineErrors{}, api.LineError{}, api.Tables{}, api.TableChange{}, api.TableResult{},
		ipvsadm.View{}, ipvsadm.Timeouts{}, ipvsadm.ServiceView{}, ipvsadm.DestinationView{}, ipvsadm.Stats{}, ipvsadm.Rates{}, ipvsadm.Connection{},
	}
	want := []string{"BackendConfig", "ServiceConfig"}
	root, err := document()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range types {
		of := reflect.TypeOf(v)
		schemaName := of.Name()
		if strings.HasSuffix(of.PkgPath(), "/ipvsadm") {
			schemaName = "IPVS" + schemaName
		}
		want = append(want, schemaName)
		var fields, required []string
		for i := range of.NumField() {
			name, option, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
			if fields = append(fields, name); option == "" {
				required = append(required, name)
			}
		}
		slices.Sort(fields)
		schema := at(t, root, "components", "schemas", schemaName).(object)
		if diff := cmp.Diff(fields, sortedKeys(schema["properties"])); diff != "" {
			t.Errorf("properties of %s (-types.go +openapi.yaml):\n%s", of.Name(), diff)
		}
		var described []string
		all, _ := schema["required"].([]any)
		for _, name := range all {
			described = append(described, name.(string))
		}
		if diff := cmp.Diff(required, described); diff != "" {
			t.Errorf("what is required of %s (-types.go +openapi.yaml):\n%s", of.Name(), diff)
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, sortedKeys(at(t, root, "components", "schemas"))); diff != "" {
		t.Errorf("schemas (-types +openapi.yaml):\n%s", diff)
	}
	file, err := parser.ParseFile(token.NewFileSet(), "../api/types.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok && !slices.Contains(want, spec.Name.Name) {
			t.Errorf("openapi.yaml has no schema for %s", spec.Name.Name)
		}
		return true
	})
}

// TestDescriptionOfOptions: what is written as in usher.yaml has the keys of usher.yaml.
func TestDescriptionOfOptions(t *testing.T) {
	t.Parallel()
	root, err := document()
	if err != nil {
		t.Fatal(err)
	}
	service, backend := []string{"name", "listen", "backends"}, []string{"address"}
	for _, o := range config.ServiceOptions() {
		service = append(service, string(o.Name))
	}
	for _, o := range config.BackendOptions() {
		backend = append(backend, string(o.Name))
	}
	for name, keys := range map[string][]string{"ServiceConfig": service, "BackendConfig": backend} {
		slices.Sort(keys)
		if diff := cmp.Diff(keys, sortedKeys(at(t, root, "components", "schemas", name, "properties"))); diff != "" {
			t.Errorf("%s (-config +openapi.yaml):\n%s", name, diff)
		}
	}
}
