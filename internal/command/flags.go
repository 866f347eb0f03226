package command

import (
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"usher/internal/config"
	"usher/internal/flags"
)

// helpFlag is a flag of every command. It is answered before the command runs.
var helpFlag cli.Flag = &cli.BoolFlag{Name: "help", Aliases: []string{"h"}}

// topical is the category of the flags that pages of help by topic explain, and not the page of each command.
const topical = "topical"

func isTopical(f cli.Flag) bool {
	c, ok := f.(cli.CategorizableFlag)
	return ok && c.GetCategory() == topical
}

// allFlags are the flags that describe services and the process. Values stay text here; package flags parses them.
func allFlags() []cli.Flag {
	all := append(serviceFlags(), &cli.StringFlag{
		Name: "config", Aliases: []string{"c"}, Usage: "FILE\tof services, and of options of the process", Category: topical,
	})
	all = append(all, ruleFlags()...)
	for _, o := range config.ProcessOptions() {
		usage := o.Form + "\t" + o.Help
		if o.Switch {
			all = append(all, &cli.BoolFlag{Name: string(o.Name), Usage: usage, Category: topical})
			continue
		}
		all = append(all, &cli.StringFlag{Name: string(o.Name), Usage: usage, Category: topical})
	}
	return all
}

// ruleFlags are the flags of rules for all services.
func ruleFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "rule", Usage: "RULE\tin iptables' words, as in '-s 10.0.0.0/8 -p tcp --dport 8080 -j DROP'", Category: topical},
		&cli.StringFlag{Name: "policy", Usage: "ACCEPT|DROP\twhat becomes of clients that no rule decides", Category: topical},
	}
}

// serviceFlags are the flags that describe services.
func serviceFlags() []cli.Flag {
	all := []cli.Flag{
		&cli.StringSliceFlag{Name: "listen", Aliases: []string{"l"}, Usage: "where clients connect", Category: topical},
		&cli.StringSliceFlag{Name: "backend", Aliases: []string{"b"}, Usage: "where usher sends them", Category: topical},
	}
	for _, o := range config.ServiceOptions() {
		f := &cli.StringSliceFlag{Name: string(o.Name), Usage: o.Form + "\t" + o.Help, Category: topical}
		if o.Name == "scheduler" {
			f.Aliases = []string{"s"}
		}
		all = append(all, f)
	}
	return all
}

// impliedValue returns the value of a flag that may stand without one.
func impliedValue(name string) (value string, ok bool) {
	if name == "watch" {
		return defaultInterval, true
	}
	return "true", slices.ContainsFunc(config.ServiceOptions(), func(o config.Option[config.Service]) bool {
		return o.Switch && string(o.Name) == name
	})
}

// gather collects the words of a parsed command line.
func gather(c *cli.Context) flags.Words {
	w := gatherService(c)
	w.File = c.String("config")
	w.Rules, w.Policy = c.StringSlice("rule"), c.String("policy")
	for _, o := range config.ProcessOptions() {
		if name := string(o.Name); c.IsSet(name) {
			w.Options = append(w.Options, flags.Option{Name: name, Value: fmt.Sprint(c.Value(name))})
		}
	}
	return w
}

// gatherService collects the words that describe services.
func gatherService(c *cli.Context) flags.Words {
	w := flags.Words{Mappings: c.Args().Slice(), Listen: c.StringSlice("listen"), Backend: c.StringSlice("backend")}
	for _, o := range config.ServiceOptions() {
		for _, value := range c.StringSlice(string(o.Name)) {
			w.Options = append(w.Options, flags.Option{Name: string(o.Name), Value: value})
		}
	}
	return w
}
