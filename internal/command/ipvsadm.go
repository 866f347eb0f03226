package command

import (
	"errors"
	"fmt"
	"iter"
	"strings"

	"usher/internal/api"
	"usher/internal/ipvsadm"
)

// runIPVSAdm does what ipvsadm does with these words. Mistakes in them need no running usher.
func runIPVSAdm(c *dialectCall) int {
	cmd, err := c.parser().Parse(c.words)
	if err != nil {
		return c.failIPVS(err)
	}
	if e := cmd.Unsupported(); e != nil {
		return c.failIPVS(e)
	}
	switch cmd.Op {
	case ipvsadm.Restore:
		return c.restore(false)
	case ipvsadm.Help, ipvsadm.Version, ipvsadm.List, ipvsadm.Save:
		if err := c.print(cmd); err != nil {
			return c.failIPVS(err)
		}
		return ok
	}
	return c.change(cmd.Line())
}

// print does a command that changes nothing.
func (c *dialectCall) print(cmd *ipvsadm.Command) (err error) {
	switch cmd.Op {
	case ipvsadm.Help:
		_, err = c.stdout.WriteString(c.parser().Usage())
	case ipvsadm.Version:
		_, err = c.stdout.WriteString(ipvsadm.VersionLine)
	case ipvsadm.List:
		err = c.list(cmd)
	case ipvsadm.Save:
		err = c.save(cmd.Format)
	}
	return err
}

// runIPVSAdmSave is ipvsadm -S; -n leaves names out.
func runIPVSAdmSave(c *dialectCall) int {
	var f ipvsadm.Format
	for _, word := range c.words {
		switch {
		case word == "-n":
			f.Numeric = true
		case strings.HasPrefix(word, "-"):
			fmt.Fprintf(c.stderr, "%s: Script to save the IPVS table to stdout.\n   With the -n option, prints out the table in numeric format.\n", c.dialect.name)
			return failed
		}
	}
	if err := c.save(f); err != nil {
		return c.failIPVS(err)
	}
	return ok
}

// runIPVSAdmRestore is ipvsadm -C and then -R, in one step. Lines that begin with # are comments.
func runIPVSAdmRestore(c *dialectCall) int { return c.restore(true) }

// parser reads words with names in them, for which the machine is asked.
func (c *dialectCall) parser() ipvsadm.Parser {
	return ipvsadm.Parser{Program: c.dialect.name, Host: lookupHost, Port: lookupPort}
}

// failIPVS prints why a command of ipvsadm has failed.
func (c *dialectCall) failIPVS(err error) int {
	if e, is := errors.AsType[*ipvsadm.Error](err); is {
		fmt.Fprintln(c.stderr, e.Text)
		return e.Status
	}
	return c.fail(statusRefused, err)
}

func (c *dialectCall) list(cmd *ipvsadm.Command) error {
	usher, err := c.client()
	if err != nil {
		return err
	}
	if cmd.Format.Connections {
		var failure error
		err := cmd.Format.PrintConnections(c.stdout, connectionsOf(usher.IPVSConnections(c.ctx), &failure), namesOf(cmd.Format))
		return errors.Join(failure, err)
	}
	var view ipvsadm.View
	if cmd.HasService {
		view, err = usher.IPVSService(c.ctx, cmd.Service.Key)
	} else {
		view, err = usher.IPVS(c.ctx)
	}
	if err != nil {
		return err
	}
	return cmd.Print(c.stdout, &view, namesOf(cmd.Format))
}

// connectionsOf yields connections until one is an error, which it stores.
func connectionsOf(all iter.Seq2[ipvsadm.Connection, error], failure *error) iter.Seq[ipvsadm.Connection] {
	return func(yield func(ipvsadm.Connection) bool) {
		for connection, err := range all {
			if err != nil {
				*failure = err
				return
			}
			if !yield(connection) {
				return
			}
		}
	}
}

func (c *dialectCall) save(f ipvsadm.Format) error {
	usher, err := c.client()
	if err != nil {
		return err
	}
	lines, err := usher.IPVSLines(c.ctx)
	if err != nil {
		return err
	}
	state := ipvsadm.NewState()
	for _, line := range lines {
		cmd, err := ipvsadm.Parser{IsRestoring: true}.Parse(strings.Fields(line))
		if err == nil {
			err = cmd.Do(state)
		}
		if err != nil {
			return fmt.Errorf("the running usher has a line that this one cannot read: %s: %w", line, err)
		}
	}
	return state.Save(c.stdout, namesOf(f))
}

// change runs one line, and returns the status.
func (c *dialectCall) change(line string) int {
	refusals, err := c.changeIPVS([]string{line})
	if err != nil {
		return c.failIPVS(err)
	}
	for _, e := range refusals {
		fmt.Fprintln(c.stderr, printable(e.Text))
	}
	if len(refusals) > 0 {
		return refusals[0].Status
	}
	return ok
}

func (c *dialectCall) changeIPVS(lines []string) ([]api.LineError, error) {
	usher, err := c.client()
	if err != nil {
		return nil, err
	}
	return usher.ChangeIPVS(c.ctx, lines)
}
