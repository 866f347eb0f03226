package command

import (
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"usher/internal/config"
	"usher/internal/figures"
	"usher/internal/migrate"
)

// importCommand is the one that makes a config file of another balancer's configuration.
func (p *program) importCommand() *cli.Command {
	return &cli.Command{
		Name: "import", Usage: "prints the configuration of ipvsadm, iptables, HAProxy or nginx as a config file", ArgsUsage: "FILE",
		Description: importHelp,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "from", Usage: "KIND\tipvsadm|iptables|haproxy|nginx, in place of what the text looks like"},
			&cli.BoolFlag{Name: "strict", Usage: "exits with status 1 if any line could not be brought over"},
		},
		Action: p.importFile,
	}
}

const importHelp = `  ipvsadm -S -n | usher import - > usher.yaml
  iptables-save | usher import - > usher.yaml
  usher import /etc/haproxy/haproxy.cfg > usher.yaml
  nginx -T | usher import - > usher.yaml                 with all files that nginx.conf includes
  usher check -c usher.yaml

- is standard input. Of haproxy.cfg the proxies of mode tcp become services, of nginx the servers of stream. A line that
could not be brought over, or works in another way, becomes a comment: its number, the line, the reason and what comes
nearest. The comment stands above the service that it is about, or at the end.

What there is, and what it is with usher:

  ipvsadm -g, -i               -m: servers see usher's address and answer usher, so they need neither the address of
                               the service nor a route. --send-proxy tells them the client's address
  ipvsadm -f MARK, port 0      the addresses and ports, written down
  iptables INPUT               rules, for the clients of all services. Those of DNAT, which pass FORWARD there, come in
                               before them
  DNAT, REDIRECT               a service. This machine needs the address (ip addr add), and the right to low ports
  FORWARD, OUTPUT, SNAT        nothing: usher forwards no packets
  mode http, http {}, ssl      nothing: TLS passes through, and the proxy that ends it stays behind usher
  servers without check        health: off. Without that line the backends have usher's own checks
  max_fails of nginx           eject
  timeout connect, retries     connect-timeout bounds all attempts. The next one follows a refusal at once, or 250ms of
                               silence
  hash, balance source         ring, mh: a client keeps its backend from then on, which may be another one than before
  maxconn of a proxy           max-conns for the whole, max-client-conns, max= of a backend
`

// importFile prints a file of another balancer as one of usher.
func (p *program) importFile(c *cli.Context) error {
	file := c.Args().First()
	text, err := readText(file)
	if err != nil {
		return err
	}
	name := file
	if file == "-" {
		name = "standard input"
	}
	kind := migrate.Kind(c.String("from"))
	switch {
	case c.IsSet("from") && !kind.IsKnown():
		return usageError{fmt.Errorf("--from: unknown kind %q%s", kind, config.OrHave(string(kind), migrate.KindNames()))}
	case !c.IsSet("from"):
		if kind, err = migrate.Detect(text); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	result, err := migrate.Import(kind, text)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if _, err := p.stdout.Write(result.YAML(name)); err != nil {
		return err
	}
	if lost := result.Lost(); lost > 0 && c.Bool("strict") {
		return fmt.Errorf("%s: %s could not be brought over (see the comments)", name, figures.Count(lost, "line"))
	}
	return nil
}

// readText returns what a file holds; - is standard input.
func readText(file string) (string, error) {
	from := os.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		from = f
	}
	text, err := io.ReadAll(io.LimitReader(from, migrate.MaxText+1))
	return string(text), err
}
