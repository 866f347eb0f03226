package ipvsadm

// Unsupported returns why usher does not run a command that the kernel would run, and what to use instead; nil if it
// runs it.
func (c *Command) Unsupported() *Error {
	switch c.Op {
	case StartDaemon, StopDaemon:
		return Refuse("there is no sync daemon: a connection of usher ends with its process; usher upgrade keeps all of them")
	case Add, Edit:
		return c.Service.unsupported()
	case AddServer, EditServer:
		return c.Destination.unsupported()
	}
	return nil
}

func (v *Service) unsupported() *Error {
	switch {
	case v.Mark == 0 && v.Addr.Port() == 0:
		return Refuse("usher opens a socket for each port, and port 0 stands for all: name those that are used, such as ADDR:8000-8100")
	case v.Protocol == SCTP:
		return Refuse("usher carries TCP and UDP, not SCTP: use -t or -u")
	case v.Engine != "":
		return Refuse("usher does not read SIP: use -p without --pe, which keeps a client's address with its server")
	case v.Scheduler == "none":
		return Refuse("a service without a scheduler refuses all connections: use iptables -A INPUT ... -j REJECT")
	}
	return nil
}

func (d *Destination) unsupported() *Error {
	const use = "use -m, by which the server sees usher's address and answers to it"
	switch d.Method {
	case Route:
		return Refuse("direct routing (-g, the default) sends packets on as they are, which takes a kernel: " + use)
	case Tunnel:
		return Refuse("tunneling (-i) wraps packets as they are, which takes a kernel: " + use)
	}
	return nil
}
