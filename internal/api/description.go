package api

import _ "embed"

//go:embed openapi.yaml
var description []byte

// Description returns the OpenAPI document of the API. Callers must not change it.
func Description() []byte { return description }
