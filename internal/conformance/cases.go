//go:build linux

package conformance

import "slices"

// Cases returns every case, in the order of the table.
func Cases() []Case {
	return slices.Concat(
		byteCases(), endCases(), deliveryCases(), backendCases(), failingCases(), checkCases(), agentCases(), cutCases(), poolCases(),
		queueCases(), persistCases(), shareCases(), timeCases(), emptyCases(),
		limitCases(), roomCases(), crowdCases(), liveCases(), addressCases(), logCases(),
		ruleCases(), accessLimitCases(), proxyInCases(), proxyBadCases(), proxyOutCases(), proxyOtherCases(), nameCases(), sourceCases(),
		udpByteCases(), udpFlowCases(), udpOnceCases(), udpTimeCases(), udpFailureCases(), udpFailingCases(),
		udpLimitCases(), udpThrashCases(), udpCrowdCases(), udpLogCases(),
	)
}

// pairThrough starts a plain proxy before one backend. It returns both ends of a flow
// that has carried a byte each way.
func pairThrough(c *C) (p *Proxy, client, server *Conn) { return pairWith(c, Config{}) }

// pairWith is pairThrough with a proxy of cfg.
func pairWith(c *C, cfg Config) (p *Proxy, client, server *Conn) {
	b := c.Backend()
	cfg.Backends = []string{b.Addr}
	p = c.Start(cfg)
	client, server = c.Pair(p, b)
	c.Must(Ping(client, server))
	return p, client, server
}

// bothWays sends n bytes each way at once.
func bothWays(c *C, client, server *Conn, n int) {
	up, down := c.Stream(1), c.Stream(2)
	c.Together(
		func() error { return client.Send(up, n) },
		func() error { return server.Receive(up, n) },
		func() error { return server.Send(down, n) },
		func() error { return client.Receive(down, n) },
	)
}
