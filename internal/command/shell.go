package command

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"usher/internal/version"
)

// version prints which build this is.
func (p *program) version(c *cli.Context) error {
	out, err := p.output(c)
	if err != nil {
		return err
	}
	info := version.Get()
	if out.isObject() {
		return out.object(p.stdout, info)
	}
	_, err = io.WriteString(p.stdout, info.Text())
	return err
}

// readyTimeout bounds an answer about readiness: an usher that is slower is not ready.
const readyTimeout = 5 * time.Second

// ready asks the running usher whether clients should come. A refusal is the exit status.
func (p *program) ready(c *cli.Context) error {
	ctx, cancel := context.WithTimeoutCause(c.Context, readyTimeout, fmt.Errorf("no answer within %s", readyTimeout))
	defer cancel()
	c.Context = ctx
	usher, err := client(c)
	if err == nil {
		err = usher.Ready(ctx, c.Args().First())
	}
	if err != nil {
		return err
	}
	return p.say("ready")
}
