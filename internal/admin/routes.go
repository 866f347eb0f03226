package admin

import (
	"net/http"
	"slices"

	"usher/internal/config"
)

// route is one thing that can be asked. openapi.yaml describes the same, which a test holds.
type route struct {
	method, path string
	query        []string // parameters
	isFlowQuery  bool     // the parameters are those of control.ParseFlowQuery instead
	hasBody      bool
	bodyMost     int64                                               // bytes; 0: maxBody
	isStream     bool                                                // the answer may take as long as its reader does
	serve        func(*Handler, http.ResponseWriter, *request) error // after an error nothing was written
}

const (
	servicesPath = "/v1/services"
	servicePath  = servicesPath + "/{name}"
	backendsPath = servicePath + "/backends"
	backendPath  = backendsPath + "/{address}"
	overridePath = backendPath + "/override"
	rulesPath    = "/v1/rules"
	pagePath     = "/"
)

// routes are all that can be asked. GET only reads; everything else changes something. Where an answer ends soon, HEAD is
// for those who only want to know the status.
var routes = []route{
	{method: "GET", path: pagePath, serve: (*Handler).showPage},
	{method: "GET", path: "/page/{file}", serve: (*Handler).showPage},
	{method: "GET", path: "/v1/live", isStream: true, serve: (*Handler).followLive},
	{method: "GET", path: servicesPath, query: []string{"backends"}, serve: (*Handler).listServices},
	{method: "POST", path: servicesPath, hasBody: true, serve: (*Handler).addService},
	{method: "GET", path: servicePath, serve: (*Handler).showService},
	{method: "PATCH", path: servicePath, hasBody: true, serve: (*Handler).setService},
	{method: "DELETE", path: servicePath, serve: (*Handler).removeService},
	{method: "POST", path: backendsPath, hasBody: true, serve: (*Handler).addBackend},
	{method: "PATCH", path: backendPath, hasBody: true, serve: (*Handler).setBackend},
	{method: "DELETE", path: backendPath, serve: (*Handler).removeBackend},
	{method: "PUT", path: overridePath, hasBody: true, serve: (*Handler).setOverride},
	{method: "DELETE", path: overridePath, serve: (*Handler).resume},
	{method: "POST", path: servicePath + "/rebalance", hasBody: true, isStream: true, serve: (*Handler).rebalance},
	{method: "GET", path: rulesPath, serve: (*Handler).listRules},
	{method: "PUT", path: rulesPath, hasBody: true, bodyMost: maxRules, serve: (*Handler).setRules},
	{method: "POST", path: rulesPath, hasBody: true, bodyMost: maxRules, serve: (*Handler).addRules},
	{method: "DELETE", path: rulesPath, serve: (*Handler).removeRules},
	{method: "GET", path: "/v1/flows", isFlowQuery: true, isStream: true, serve: (*Handler).listFlows},
	{method: "DELETE", path: "/v1/flows", isFlowQuery: true, serve: (*Handler).killFlows},
	{method: "GET", path: "/v1/flows/events", isFlowQuery: true, isStream: true, serve: (*Handler).followFlows},
	{method: "GET", path: "/v1/events", isStream: true, serve: (*Handler).followEvents},
	{method: "GET", path: "/v1/ipvs", query: []string{"service"}, serve: (*Handler).showIPVS},
	{method: "POST", path: "/v1/ipvs", hasBody: true, bodyMost: maxDialect, serve: (*Handler).changeIPVS},
	{method: "GET", path: "/v1/ipvs/lines", serve: (*Handler).saveIPVS},
	{method: "GET", path: "/v1/ipvs/connections", isStream: true, serve: (*Handler).listIPVSConnections},
	{method: "GET", path: "/v1/iptables", serve: (*Handler).showTables},
	{method: "POST", path: "/v1/iptables", hasBody: true, bodyMost: maxDialect, serve: (*Handler).changeTables},
	{method: "GET", path: "/v1/config", serve: (*Handler).showConfig},
	{method: "GET", path: "/v1/process", serve: (*Handler).showProcess},
	{method: "POST", path: "/v1/reload", serve: (*Handler).reload},
	{method: "POST", path: "/v1/upgrade", hasBody: true, serve: (*Handler).upgrade},
	{method: "POST", path: "/v1/stop", hasBody: true, serve: (*Handler).stop},
	{method: "GET", path: "/v1/openapi.yaml", serve: (*Handler).describe},
	{method: "GET", path: "/metrics", serve: (*Handler).showMetrics},
	{method: "GET", path: "/healthz", serve: (*Handler).showHealth},
	{method: "GET", path: "/readyz", query: []string{"service"}, serve: (*Handler).showReady},
}

// pattern returns the route's pattern for http.ServeMux, where the path of the page would mean all paths.
func (r *route) pattern() string {
	if r.path == pagePath {
		return pagePath + "{$}"
	}
	return r.path
}

// orHavePath ends an error about an unknown path.
func orHavePath(path string) string {
	var have []string
	for _, r := range routes {
		if !slices.Contains(have, r.path) {
			have = append(have, r.path)
		}
	}
	return config.OrHave(path, have)
}
