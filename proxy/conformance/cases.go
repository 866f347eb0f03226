//go:build linux

package conformance

import "slices"

// Cases returns every case, in the order of the table.
func Cases() []Case {
	return slices.Concat(
		byteCases(), endCases(), backendCases(), failingCases(), checkCases(), agentCases(), cutCases(), poolCases(),
		queueCases(), persistCases(), shareCases(), timeCases(),
		limitCases(), crowdCases(), addressCases(), logCases(),
		udpByteCases(), udpFlowCases(), udpTimeCases(), udpFailureCases(), udpFailingCases(),
		udpLimitCases(), udpThrashCases(), udpCrowdCases(), udpLogCases(),
	)
}

// pairThrough starts a plain proxy before one backend and returns both ends of
// a flow on which a byte has gone each way.
func pairThrough(c *C) (p *Proxy, client, server *Conn) {
	b := c.Backend()
	p = c.Start(Config{Backends: []string{b.Addr}})
	client, server = c.Pair(p, b)
	c.Must(Ping(client, server))
	return p, client, server
}
