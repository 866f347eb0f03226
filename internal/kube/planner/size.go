package planner

// Bounds of what is planned for one Service. Many ports times many endpoints are more than a machine has room for, though
// the objects are small. They are beyond 1,000 endpoints at 250 ports, or 10 endpoints at 10,000 ports.
const (
	maxSize          = 1 << 18
	sizeOfService    = 16   // without its endpoints
	sizeOfOption     = 16   // bytes of options that count as much as an endpoint
	maxEndpointPorts = 1000 // ports of one endpoint of a headless Service
	maxAnnotations   = 100  // that set an option: there are fewer options
)

// hasRoom counts the services of a route, and reports whether there is room for them. If not, it says so.
func (p *plan) hasRoom(r *route, groups []group, c *choice) bool {
	options := 0
	for _, o := range p.options[r.network] {
		options += len(o.Value)
	}
	for i := range groups {
		g := &groups[i]
		p.size += sizeOfService + len(g.listeners) + len(g.allow) + options/sizeOfOption + len(c.endpoints)
	}
	if p.size <= maxSize {
		return true
	}
	p.problems.add(tooLarge, "port %s and those after it are not served: the ports of the Service, each with all endpoints, source ranges "+
		"and options, are too many; use several Services", describe(r.port))
	return false
}
