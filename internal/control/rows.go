package control

import (
	"iter"
	"time"

	"usher/proxy"
)

// Rows yields all flows as the data path has them, in no order. It holds up no flow.
func (c *Controller) Rows() iter.Seq[proxy.Row] { return c.server.Flows() }

// MeasuredRows is Rows with the Sockets of each, for which loops are asked batch by batch.
func (c *Controller) MeasuredRows() iter.Seq[proxy.Row] { return measured(c.server, c.server.Flows()) }

// Clients yields the clients of services that persist, in no order and in bounded memory.
func (c *Controller) Clients() iter.Seq[proxy.Client] { return c.server.Clients() }

// Now is the time on the clock of rows and clients.
func (c *Controller) Now() time.Duration { return c.server.Now() }
