package template

import (
	"strings"
	"testing"

	sockaddrs "github.com/hashicorp/go-sockaddr/template"
)

// examples are those of go-sockaddr's documentation and tests, and more of their kind. Those of one interface are of lo,
// which most machines have.
var examples = strings.Split(`plain text

{{ GetAllInterfaces }}
{{ GetDefaultInterfaces }}
{{ GetPrivateInterfaces | sort "default" | join "address" " " }}
{{ GetPublicInterfaces | sort "default" | join "name" " " }}
{{ GetPrivateIP }}
{{ GetPrivateIPs }}
{{ GetPublicIP }}
{{ GetPublicIPs }}
{{ GetInterfaceIP "lo" }}
{{ GetInterfaceIP "en0" }}
{{ GetInterfaceIPs "lo" }}
{{ GetInterfaceIPs "en0" }}
{{ GetPrivateInterfaces | sort "default,-type,size,+address" }}
{{ GetPrivateInterfaces | exclude "type" "IPv6" }}
{{ GetAllInterfaces | sort "default,-type,address" | unique "name" }}
{{ GetPrivateInterfaces | limit 1 }}
{{ GetPrivateInterfaces | offset "-2" | limit 1 }}
{{ GetAllInterfaces | offset -1 | limit 1 }}
{{ GetPrivateInterfaces | include "type" "IP" | math "address" "+256" | attr "address" }}
{{ GetPrivateInterfaces | include "type" "IP" | math "address" "-256" | attr "address" }}
{{ GetPrivateInterfaces | include "type" "IP" | math "network" "+2" | attr "address" }}
{{ GetPrivateInterfaces | include "type" "IP" | math "network" "-2" | attr "address" }}
{{ GetPrivateInterfaces | include "type" "IP" | math "mask" "24" | attr "address" }}
{{ GetPrivateInterfaces | include "flags" "forwardable|up" | include "type" "IPv4" | math "network" "+2" | attr "address" }}
{{ GetAllInterfaces | exclude "flags" "up" | attr "address" }}
{{ GetAllInterfaces | include "flags" "forwardable" | join "address" " " }}
{{GetPrivateInterfaces | attr "address"}}
{{GetAllInterfaces | include "RFC" "6890" | join "address" " "}}
{{GetAllInterfaces | exclude "RFC" "6890" | join "address" " "}}
{{GetAllInterfaces | include "name" "lo" | sort "type,size" | include "flag" "forwardable" | attr "address" }}
{{GetAllInterfaces | include "type" "ip" | include "flags" "forwardable" | include "flags" "up" | sort "default,type,size" | exclude "RFC" "6890" }}
{{GetAllInterfaces | include "name" "lo" | printf "%v"}}
{{GetAllInterfaces | include "name" "^(en|lo)0?$" | exclude "name" "^en0$" | sort "type" | sort "address" | join "address" " " }}
{{. | include "type" "IPv4|IPv6" | include "name" "^lo$" | sort "type" | sort "address" }}
{{(. | include "rfc" "1918" | attr "name")}}
{{. | include "rfc" "99999999999" | print}}
{{. | exclude "type" "IPv4" | include "name" "^lo$" | sort "address" | unique "name" | join "name" " "}}
{{ . | include "name" "lo" | sort "type,-address" | join "address" " " }}
{{GetAllInterfaces | include "name" "^lo$" | include "type" "IP" | math "address" "+16777217" | sort "+type,+address" | join "address" " " }}
{{ GetInterfaceIP "lo" }}:80 and {{- GetInterfaceIP "lo" }}
{{ join "address" " " (include "name" "lo" (GetAllInterfaces)) }}
{{ attr "name" (limit 1 (sort "name" .)) | printf "%s-%d-%v-%v" "a" 1 true 1.5 }}
{{ or GetPublicIP (GetInterfaceIP "lo") }}
{{ or "" "" }}{{ or "a" }}{{ "" | or 0 }}
{{ 1 }}{{ true }}{{ "a" }}{{/* nothing */}}{{ print }}{{ print 1 2 "x" }}
{{
{{ }}
{{ Foo }}
{{ GetPrivateIP | Foo }}
{{ GetPrivateIP "a" }}
{{ GetInterfaceIP }}
{{ GetInterfaceIP 1 }}
{{ GetInterfaceIP true }}
{{ GetAllInterfaces | limit -1 }}
{{ GetAllInterfaces | limit 1.5 }}
{{ GetAllInterfaces | limit 99999999999999999999 }}
{{ GetAllInterfaces | sort "nonsense" }}
{{ GetAllInterfaces | include "name" "(" }}
{{ GetAllInterfaces | include "nonsense" "x" }}
{{ GetAllInterfaces | math "address" "x" }}
{{ attr "address" 1 }}
{{ 1 2 }}
{{ 1 | 2 }}
{{ ("a") "b" }}
{{ nil }}
{{ or }}
{{ printf }}
{{ $x }}
{{ break }}`, "\n")

// TestLikeSockaddr compares each example with what go-sockaddr's own evaluation yields, by text/template.
func TestLikeSockaddr(t *testing.T) {
	t.Parallel()
	for _, input := range examples {
		want, wantErr := sockaddrs.Parse(input)
		have, err := Evaluate(input)
		switch again, _ := sockaddrs.Parse(input); {
		case again != want: // an address of the machine has come or gone
		case (err == nil) != (wantErr == nil):
			t.Errorf("%s: %q, %v; want %q, %v", input, have, err, want, wantErr)
		case err == nil && have != want:
			t.Errorf("%s: %q, want %q", input, have, want)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	const instead = ` is not supported: use functions and pipes alone, such as {{ GetPrivateInterfaces | include "type" "IPv4" | attr "address" }}`
	for input, want := range map[string]string{
		"{{ Foo }}":                               `function "Foo" not defined`,
		"{{ GetPrivateIP":                         "unclosed action",
		"{{ GetInterfaceIP }}":                    "GetInterfaceIP: wrong number of arguments: 0, not 1",
		"{{ GetInterfaceIP 1 }}":                  "1 is not of type string",
		"{{ GetInterfaceIP . }}":                  "GetInterfaceIP: argument 1 is of type sockaddr.IfAddrs, not string",
		"{{ . | limit -1 }}":                      "-1 is not of type uint",
		`{{ "a" 1 }}`:                             `"a" is not a function and takes no argument`,
		"{{if true}}a{{end}}":                     "{{if true}}a{{end}}" + instead,
		"{{range .}}{{.Name}}{{end}}":             "{{range .}}{{.Name}}{{end}}" + instead,
		"{{with .}}\n{{end}}":                     "{{with .}} {{end}}" + instead,
		"{{ $x := GetPrivateIP }}":                "$x := GetPrivateIP" + instead,
		"{{ .Name }}":                             ".Name" + instead,
		"{{ print nil }}":                         "nil" + instead,
		"{{ print $ }}":                           "$" + instead,
		"{{ (limit 1 .).Name }}":                  "(limit 1 .).Name" + instead,
		`{{define "x"}}a{{end}}{{template "x" }}`: `{{template "x"}}` + instead,
	} {
		if text, err := Evaluate(input); err == nil || err.Error() != want {
			t.Errorf("%s: %q, %v; want %s", input, text, err, want)
		}
	}
}
