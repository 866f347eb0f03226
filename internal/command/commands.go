package command

import (
	"slices"

	"github.com/urfave/cli/v2"
)

// runCommands are those that run usher.
func (p *program) runCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "serve", Usage: "runs usher, which may begin without a service",
			ArgsUsage: "[LISTEN=BACKEND...]", Description: serveHelp, Flags: allFlags(), Action: p.serve,
		},
		{
			Name: "demo", Usage: "three built-in backends and a service in front of them",
			Description: demoHelp,
			Flags: slices.DeleteFunc(allFlags(), func(f cli.Flag) bool {
				return !slices.Contains([]string{"scheduler", "engine", "workers", "log-level"}, f.Names()[0])
			}),
			Action: p.demo,
		},
	}
}

// processCommands are those that are about the file and the process.
func (p *program) processCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "check", Usage: "checks a command line or a config file, and starts nothing",
			ArgsUsage: "[LISTEN=BACKEND...]", Description: checkHelp, Flags: allFlags(), Action: p.check,
		},
		{
			Name: "config", Usage: "prints what the running usher, or a command line, says, as a config file",
			ArgsUsage: "[LISTEN=BACKEND...]", Description: configHelp, Flags: allFlags(), Action: p.config,
		},
		p.importCommand(),
		{
			Name: "reload", Usage: "reads the config file again, as SIGHUP does, and says what is wrong with it",
			Flags: instanceFlags(), Action: p.reload,
		},
		{
			Name: "upgrade", Usage: "replaces the running binary and keeps every flow, as SIGUSR2 does", Description: upgradeHelp,
			Flags: append([]cli.Flag{
				&cli.StringFlag{Name: "binary", Usage: "PATH\tdefault: the file that now stands at the path of the running one"},
			}, instanceFlags()...), Action: p.upgrade,
		},
		{
			Name: "stop", Usage: "ends the running usher, as SIGTERM does, and waits until it has ended", Description: stopHelp,
			Flags: append([]cli.Flag{
				&cli.BoolFlag{Name: "now", Usage: "ends flows at once, in place of letting them finish until --drain-timeout"},
			}, instanceFlags()...), Action: p.stop,
		},
	}
}

// seeCommands are those that show what a running usher does.
func (p *program) seeCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "ls", Usage: "lists services; with the name of one, its backends", ArgsUsage: "[SERVICE]",
			Description: lsHelp,
			Flags:       append([]cli.Flag{outputFlag(), watchFlag()}, instanceFlags()...), Action: p.ls,
		},
		p.topCommand(),
		{
			Name: "flows", Usage: "lists flows, or ends them", Description: flowsHelp,
			Flags: slices.Concat(flowFlags(), []cli.Flag{
				&cli.BoolFlag{Name: "denied", Usage: "that today's rules, or the --allow and --deny of their service, would refuse"},
				&cli.BoolFlag{Name: "kill", Usage: "ends the flows that the filter lets through, TCP by a reset"},
				&cli.BoolFlag{Name: "all", Usage: "with --kill and no filter: ends all flows"},
				outputFlag(), watchFlag(),
			}, instanceFlags()), Action: p.flows,
		},
		{
			Name: "rules", Usage: "lists the rules as iptables -L -n -v --line-numbers does; with the name of a chain, that one",
			ArgsUsage: "[CHAIN]", Description: rulesHelp,
			Flags: append([]cli.Flag{outputFlag(), watchFlag()}, instanceFlags()...), Action: p.rules,
		},
		{
			Name: "events", Usage: "prints changes as they happen, until Ctrl-C", Description: eventsHelp,
			Flags: append([]cli.Flag{outputFlag()}, instanceFlags()...), Action: p.events,
		},
		p.doctorCommand(),
		{
			Name: "ready", Usage: "says whether clients should come, by its exit status", ArgsUsage: "[SERVICE]",
			Description: readyHelp, Flags: instanceFlags(), Action: p.ready,
		},
	}
}

// changeCommands are those that change a running usher.
func (p *program) changeCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "add", Usage: "adds a service, a backend or rules", Description: serviceFlagsHelp,
			Subcommands: []*cli.Command{
				{
					Name: "service", ArgsUsage: "[NAME] [LISTEN=BACKEND[,BACKEND...]]",
					Usage: "adds a service, with the words that usher itself takes", Description: addServiceHelp,
					Flags: append(serviceFlags(), instanceFlags()...), Action: p.addService,
				},
				{
					Name: "backend", ArgsUsage: "SERVICE NEW[@WEIGHT][,OPTION...]", Usage: "adds a backend to a service",
					Description: addBackendHelp, Flags: instanceFlags(), Action: p.addBackend,
				},
				{
					Name: "rule", ArgsUsage: "RULE [RULE...]", Usage: "adds rules behind those of the API",
					Description: addRuleHelp, Flags: instanceFlags(), Action: p.addRule,
				},
			},
		},
		{
			Name: "set", Usage: "changes a service, a backend or the rules", Description: serviceFlagsHelp,
			Subcommands: []*cli.Command{
				{
					Name: "service", ArgsUsage: "SERVICE", Usage: "changes what the flags say, and leaves the rest",
					Description: setServiceHelp, Flags: append(serviceFlags(), instanceFlags()...), Action: p.setService,
				},
				{
					Name: "backend", ArgsUsage: "SERVICE ADDR[@WEIGHT][,OPTION...]", Usage: "changes the weight and the options that are given",
					Description: setBackendHelp, Flags: instanceFlags(), Action: p.setBackend,
				},
				{
					Name: "rules", ArgsUsage: "[RULE...]", Usage: "makes these all rules of the API, in one step",
					Description: setRulesHelp,
					Flags: append([]cli.Flag{
						&cli.StringFlag{Name: "policy", Usage: "ACCEPT|DROP\tfor flows that no rule decides"},
					}, instanceFlags()...), Action: p.setRules,
				},
			},
		},
		{
			Name: "rm", Usage: "removes a service or a backend, whose flows end as --on-remove says, or the rules",
			Subcommands: []*cli.Command{
				{
					Name: "service", ArgsUsage: "SERVICE", Usage: "removes a service",
					Flags: instanceFlags(), Action: p.removeService,
				},
				{
					Name: "backend", ArgsUsage: "SERVICE ADDR", Usage: "removes a backend from a service",
					Flags: instanceFlags(), Action: p.removeBackend,
				},
				{
					Name: "rules", Usage: "removes the rules of the API, and its policy",
					Flags: instanceFlags(), Action: p.removeRules,
				},
			},
		},
	}
}

// handCommands are those by which an operator works on backends by hand, above the plan.
func (p *program) handCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "drain", Usage: "gives a backend no new clients; its flows end as --on-drain says",
			ArgsUsage: "SERVICE ADDR", Flags: overrideFlags(), Action: p.override("drain"),
		},
		{
			Name: "maint", Usage: "gives a backend no new flows, not even of clients that --persist keeps there",
			ArgsUsage: "SERVICE ADDR", Flags: overrideFlags(), Action: p.override("maint"),
		},
		{
			Name: "resume", Usage: "takes back what was set by hand: drain, maint, weight",
			ArgsUsage: "SERVICE ADDR", Flags: instanceFlags(), Action: p.resume,
		},
		{
			Name: "rebalance", Usage: "spreads long flows again: ends the surplus of a backend slowly, and waits for that",
			ArgsUsage: "SERVICE", Description: rebalanceHelp,
			Flags: append([]cli.Flag{
				&cli.StringFlag{Name: "rate", Usage: "N\tflows to end a second, at most; default: all within a minute"}, outputFlag(),
			}, instanceFlags()...), Action: p.rebalance,
		},
	}
}

// shellCommands are those that help in a shell.
func (p *program) shellCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "completion", Usage: "prints what a shell needs to complete usher's words",
			ArgsUsage: "bash|zsh|fish", Description: completionHelp, Action: p.completion,
		},
		{
			Name: "man", Usage: "prints the manual page: usher man | man -l -", Description: manHelp, Action: p.man,
		},
		{
			Name: "version", Usage: "says which build of usher this is", Flags: []cli.Flag{outputFlag()}, Action: p.version,
		},
		{
			Name: "help", Usage: "help on a command or a topic", ArgsUsage: "[TOPIC...]",
			Action: p.help,
		},
	}
}
