//go:build linux

package conformance_test

import "testing"

// TestAccessSuite tests the cases about who may come in: each flaw must make those beside
// it fail.
func TestAccessSuite(t *testing.T) {
	t.Parallel()
	const ended = "|EOF|reset|broken pipe" // what a client says that was to be served
	bad := []string{
		"bad-header-garbage", "bad-header-of-version-1-without-end", "bad-header-with-a-port-too-big",
		"bad-header-with-addresses-of-two-families", "bad-header-too-short-for-its-addresses", "bad-header-of-version-3", "bad-header-of-64-kib",
		"bad-header-nothing-but-an-end", "bad-header-cut-by-an-end", "bad-header-cut-by-a-reset",
	}
	catches(t, []flaw{
		{"lets-all-in", "is served|have reached|came where a reset", []string{"rules-by-source", "rules-policy-refuses-the-rest", "rules-by-port", "refused-client-is-reset"}},
		{"lets-all-in", "nothing was due|got through", []string{"udp-rules-by-source", "udp-proxy-header-names-the-client"}},
		{"lets-all-in", "the new rules to refuse", []string{"rules-change-while-flows-run"}},
		{"lets-all-in", "is served|in silence|have reached", []string{"dropped-client-hears-nothing", "dropped-client-is-held-for-a-while"}},
		{"lets-all-in", "is served|neither served|no connection", []string{"proxy-named-client-is-judged"}},
		{"none", "is served", []string{"rules-in-chains", "rules-count-what-they-decide"}},
		{"restarts", "hear|say" + ended, []string{"rules-change-while-flows-run", "name-moves-with-a-reload"}},
		{"ends-the-refused", "a clean end came", []string{"refused-client-is-reset"}},
		{"tells-the-dropped", "hears of it|say|connect", []string{"dropped-client-hears-nothing"}},
		{"tells-the-dropped", "is told after|connect", []string{"dropped-client-is-held-for-a-while"}},
		{"tells-the-dropped", "are held", []string{"dropped-clients-are-few"}},
		{"holds-all-dropped", "the proxy to end all but", []string{"dropped-clients-are-few"}},
		{"gives-no-room", "hear|connect" + ended, []string{"dropped-clients-make-room"}},
		{"keeps-the-dropped", "the proxy to hold", []string{"dropped-client-that-leaves-is-forgotten"}},
		{"no-client-limit", "is served|neither served", []string{
			"client-connection-limit", "client-connection-limit-of-a-prefix", "client-rate", "client-rate-of-a-prefix", "service-rate",
			"proxy-named-client-has-its-limit"}},
		{"no-client-limit", "nothing was due|got through", []string{"udp-client-rate"}},
		{"counts-by-address", "is served|neither served", []string{"client-connection-limit-of-a-prefix", "client-rate-of-a-prefix"}},
		{"never-gives-back", "to serve it again", []string{"client-connection-limit", "client-connection-limit-of-a-prefix"}},
		{"never-gives-back", "of whom 2 have come" + ended, []string{"client-connection-limit-counts-the-living"}},
		{"ignores-headers", "names client|no connection|timeout|PROXY header|hear|is not passed on", []string{
			"proxy-v1-names-the-client", "proxy-v2-names-the-client", "proxy-header-byte-by-byte", "proxy-header-before-the-data",
			"proxy-header-names-nobody", "proxy-tlvs-are-passed-on", "hello-behind-a-proxy-header"}},
		{"ignores-headers", "ask|reply|timeout|nothing was due|got through|is answered", []string{"udp-proxy-header-names-the-client"}},
		{"names-once", "is answered", []string{"udp-proxy-header-in-any-datagram"}},
		{"names-the-peer", "names client", []string{"proxy-v1-names-the-client", "proxy-v2-names-the-client"}},
		{"names-the-peer", "as if the peer|go to", []string{"proxy-named-client-is-hashed", "proxy-named-client-persists"}},
		{"names-the-peer", "neither served|no connection|names client" + ended, []string{"proxy-named-client-is-judged", "proxy-named-client-has-its-limit"}},
		{"trusts-all", "names client|neither served|have reached|is served", []string{"proxy-header-of-others-is-data", "proxy-header-is-required"}},
		{"loses-the-data", "hear|receive|timeout|no connection", []string{"proxy-v1-names-the-client", "proxy-header-names-nobody", "hello-behind-a-proxy-header"}},
		{"loses-values", "is not passed on", []string{"proxy-tlvs-are-passed-on"}},
		{"serves-the-bad", "names client|PROXY header|neither served|have reached|no connection|timeout", bad},
		{"waits-for-ever", "neither served", []string{"bad-header-that-never-comes", "bad-header-that-stops-half-way", "hello-never-comes", "hello-stops-half-way"}},
		{"sends-no-header", "hear a PROXY header", []string{
			"backend-learns-the-client-v1", "backend-learns-the-client-v2", "backend-learns-the-client-v1-ipv6", "backend-learns-the-client-v2-ipv6",
			"proxy-header-comes-before-a-late-client", "proxy-header-comes-once-behind-a-failure", "proxy-id-is-of-the-flow"}},
		{"sends-no-header", "without a header", []string{"udp-proxy-header-with-the-first", "udp-proxy-header-with-each"}},
		{"only-the-first", "without a header", []string{"udp-proxy-header-with-each"}},
		{"sends-v1", "of version 1", []string{"backend-learns-the-client-v2", "backend-learns-the-client-v2-ipv6"}},
		{"one-id", "another's", []string{"proxy-id-is-of-the-flow"}},
		{"ignores-names", "hear|no connection" + ended, []string{
			"name-exact-and-below", "name-by-protocol", "name-and-protocol", "hello-in-pieces", "hello-of-many-records", "hello-of-16-kib",
			"hello-of-16-kib-in-records", "hello-with-unknown-values", "hello-passes-every-byte", "hello-and-half-close"}},
		{"exact-names-only", "hear", []string{"name-exact-and-below"}},
		{"ignores-protocols", "hear", []string{"name-by-protocol", "name-and-protocol"}},
		{"reads-once", "hear" + ended, []string{"hello-in-pieces"}},
		{"loses-the-data", "hear|receive|no connection|timeout", []string{"name-unknown-has-the-rest", "hello-passes-every-byte", "hello-and-half-close"}},
		{"serves-the-unknown", "is served", []string{"name-unknown-is-refused"}},
		{"leaks", "the proxy to hold", []string{"hello-cut-by-a-reset"}},
	})
}
