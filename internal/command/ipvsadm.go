package command

import (
	"errors"
	"fmt"
	"iter"
	"slices"
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
	case ipvsadm.Help:
		_, err = c.stdout.WriteString(c.parser().Usage())
	case ipvsadm.Version:
		_, err = c.stdout.WriteString(ipvsadm.VersionLine)
	case ipvsadm.List:
		err = c.list(cmd)
	case ipvsadm.Save:
		err = c.save(cmd.Format)
	case ipvsadm.Restore:
		return c.restore(nil)
	default:
		return c.change([]string{cmd.Line()})
	}
	if err != nil {
		return c.failIPVS(err)
	}
	return ok
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
func runIPVSAdmRestore(c *dialectCall) int { return c.restore([]string{"-C"}) }

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
	view, err := usher.IPVS(c.ctx)
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

// restore runs the lines of the input behind others, as one change. Like ipvsadm it ends at a line that it cannot read,
// when those before it have run, and goes on behind one that is refused.
func (c *dialectCall) restore(lines []string) int {
	isScript := len(lines) > 0 // of ipvsadm-restore
	p := c.parser()
	p.IsRestoring = true
	var mistake error
	for words, err := range ipvsadm.ReadLines(c.stdin) {
		if err == nil {
			if isScript && strings.HasPrefix(words[0], "#") {
				continue
			}
			var cmd *ipvsadm.Command
			if cmd, err = p.Parse(words); err == nil {
				lines = append(lines, cmd.Line())
			}
		}
		if err != nil {
			mistake = err
			break
		}
	}
	status := ok
	if len(lines) > 0 {
		usher, err := c.client()
		if err != nil {
			return c.failIPVS(err)
		}
		refusals, err := usher.ChangeIPVS(c.ctx, lines)
		if err != nil {
			return c.failIPVS(err)
		}
		c.printRefusals(lines, refusals)
	}
	if mistake != nil {
		status = c.failIPVS(mistake)
	}
	return status
}

// printRefusals prints why lines were refused. A refusal by usher, which ipvsadm does not know, names the line.
func (c *dialectCall) printRefusals(lines []string, refusals []api.LineError) {
	for _, e := range refusals {
		if e.Errno == 0 && len(lines) > 1 && e.Line < len(lines) {
			fmt.Fprintf(c.stderr, "%s: %s\n", lines[e.Line], printable(e.Text))
			continue
		}
		fmt.Fprintln(c.stderr, printable(e.Text))
	}
}

// change runs one line, and returns the status.
func (c *dialectCall) change(lines []string) int {
	usher, err := c.client()
	if err != nil {
		return c.failIPVS(err)
	}
	refusals, err := usher.ChangeIPVS(c.ctx, lines)
	if err != nil {
		return c.failIPVS(err)
	}
	c.printRefusals(lines, refusals)
	if i := slices.IndexFunc(refusals, func(e api.LineError) bool { return e.Status != 0 }); i >= 0 {
		return refusals[i].Status
	}
	return ok
}
