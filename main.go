// Usher is a layer-4 load balancer in one binary that runs as you: see usher --help.
package main

import (
	"context"
	"os"

	"usher/internal/command"
	"usher/internal/kube"
)

func main() {
	os.Exit(command.Main(context.Background(), os.Args, os.Stdout, os.Stderr, kube.Command()))
}
