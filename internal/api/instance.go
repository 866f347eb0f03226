package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"usher/internal/config"
)

// Extension ends the names of control sockets.
const Extension = ".sock"

// Instance is a running usher of this user.
type Instance struct {
	Name string // of its socket, without the extension
	Path string // of its socket
}

// Instances returns the running ushers of this user, by name. It finds those whose socket is in Folder. A socket on
// which nobody listens, as a killed process leaves it, is passed over.
func Instances(ctx context.Context) ([]Instance, error) { return instancesIn(ctx, Folder()) }

func instancesIn(ctx context.Context, folder string) ([]Instance, error) {
	if err := checkFolder(folder); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	files, err := os.ReadDir(folder) // sorted by name
	if err != nil {
		return nil, err
	}
	found := make([]Instance, 0, len(files))
	for _, f := range files {
		if name, ok := strings.CutSuffix(f.Name(), Extension); ok && f.Type()&fs.ModeSocket != 0 {
			found = append(found, Instance{Name: name, Path: filepath.Join(folder, f.Name())})
		}
	}
	return running(ctx, found), nil
}

// running returns those that accept a connection. It asks some at once: each may take a while.
func running(ctx context.Context, found []Instance) []Instance {
	const atOnce = 16
	answers := make([]error, len(found))
	places := make(chan struct{}, atOnce)
	var asked sync.WaitGroup
	for i := range found {
		places <- struct{}{}
		asked.Go(func() {
			answers[i] = probe(ctx, found[i].Path)
			<-places
		})
	}
	asked.Wait()
	live := found[:0]
	for i, err := range answers {
		if err == nil {
			live = append(live, found[i])
		}
	}
	return live
}

// probe returns why nobody listens on a socket. One whose backlog is full has a process that is busy, or stopped.
func probe(ctx context.Context, path string) error {
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		return c.Close()
	}
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if cause := new(net.OpError); errors.As(err, &cause) {
		err = cause.Err
	}
	if cause := new(os.SyscallError); errors.As(err, &cause) {
		err = cause.Err
	}
	return err
}

// Find returns a client of a running usher: of the socket at control, if that is not empty; else of the one that has
// the name; else of the only one. The error says what to choose from.
func Find(ctx context.Context, name, control string) (*Client, error) {
	return findIn(ctx, Folder(), name, control)
}

func findIn(ctx context.Context, folder, name, control string) (*Client, error) {
	if control != "" {
		err := probe(ctx, control)
		if err == nil {
			return NewClient(control), nil
		}
		have, _ := instancesIn(ctx, folder) // only to help
		return nil, fmt.Errorf("cannot reach usher at %s: %w: is usher running? %s", control, err, list("These are: ", have, "None is"))
	}
	have, err := instancesIn(ctx, folder)
	switch {
	case err != nil:
		return nil, err
	case name != "":
		for _, i := range have {
			if i.Name == name {
				return NewClient(i.Path), nil
			}
		}
		near := ""
		if word := config.Nearest(name, names(have)); word != "" {
			near = fmt.Sprintf(": did you mean %q?", word)
		}
		return nil, fmt.Errorf("usher %s is not running%s (%s)", name, near, list("running: ", have, "none is"))
	case len(have) == 0:
		return nil, fmt.Errorf("no usher is running (no socket in %s): usher serve starts one", folder)
	case len(have) > 1:
		return nil, fmt.Errorf("several ushers run: %s (choose one with --name)", strings.Join(names(have), ", "))
	}
	return NewClient(have[0].Path), nil
}

func names(have []Instance) []string {
	words := make([]string, len(have))
	for i, one := range have {
		words[i] = one.Name
	}
	return words
}

// list returns the names of the ushers that can be reached behind a word; of none it is another word.
func list(word string, have []Instance, none string) string {
	if len(have) == 0 {
		return none
	}
	return word + strings.Join(names(have), ", ")
}
