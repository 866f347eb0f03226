package command

import "strings"

// The texts of the manual page that no page of the help has. Their form is that of the help.

const manDescription = `usher accepts clients, chooses a backend for each, and moves bytes or datagrams both ways. It checks backends, tries
the next one when one fails, and logs how each flow ends. It needs no root, no kernel module and no config file.

A service has one or more listeners, a pool of backends, a scheduler and options. LISTEN=BACKEND[,BACKEND...] is a
service in one word. Services also come from a config file, from commands to a running usher, and from Kubernetes.
`

const manOptions = `Flags may stand anywhere on the line. Those of services are repeatable: NAME=VALUE is for one service, VALUE for all.
`

const manCommands = `usher COMMAND --help and usher help TOPIC print the same as this page has. Several commands have these flags:
`

// manSections are the last parts of the page.
func manSections() []section {
	return []section{
		{"Signals", `  SIGTERM, SIGINT   usher stops listening, lets flows finish until --drain-timeout, and exits with status 0. A second
                    one ends all flows at once
  SIGHUP            reads the config file again. Without a config file it is as SIGTERM; if it was ignored at the start,
                    as nohup does it, it stays so
  SIGUSR2           goes on as the binary that now stands at the path of the running one, with the same process ID and
                    every flow (Linux)
`},
		{"Exit status", `  0   usher has served and ended in order, or a command is done
  1   usher could not start, or the running one refused, or none runs
  2   the words of the command line are wrong; nothing was started or changed
`},
		{"Environment", `  XDG_RUNTIME_DIR   the folder in which usher/NAME.sock is the control socket, if it belongs to this user
  TMPDIR            else the control socket is usher-UID/NAME.sock in here; default: /tmp
  USHER_NAME, USHER_CONTROL
                    which running usher the dialects ask, as --name and --control say it for other commands
  NOTIFY_SOCKET     where a service manager gets to know that usher is ready, reloads or stops (sd_notify(3))
  LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES
                    the sockets that a service manager has passed (sd_listen_fds(3))
  NODE_NAME         the default of usher kube --node
  NO_COLOR          not empty: no colors. With TERM=dumb the screen is not redrawn either
  GOGC, GOMEMLIMIT  how the Go runtime collects garbage
  PATH, HOME        the only ones that the programs of --health exec: get, beside USHER_BACKEND
`},
		{"Files", `  $XDG_RUNTIME_DIR/usher/NAME.sock
                    the control socket, which only its user reaches
  /etc/resolv.conf, /etc/hosts
                    how names of backends are looked up
  /proc/sys/net/ipv4/ip_local_port_range
                    how many flows of UDP there can be
`},
		{"Examples", strings.Join(linesBetween(rootTail, "Examples\n", "\nAddresses"), "\n")},
		{"See also", `ipvsadm(8), iptables(8), conntrack(8), haproxy(1), systemd.service(5), systemd.socket(5)
`},
	}
}
