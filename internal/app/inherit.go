package app

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"usher/proxy"
)

const (
	firstInherited = 3    // SD_LISTEN_FDS_START
	mostInherited  = 1024 // a manager that passes more is no manager
)

// inheritedSockets returns the sockets that a service manager has passed, as sd_listen_fds_with_names(3) does. Children do
// not read of them, and neither does an image after this one, to which they belong already.
func inheritedSockets() ([]proxy.Inherited, error) {
	pid, count, list := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"} {
		if err := os.Unsetenv(name); err != nil {
			return nil, err
		}
	}
	if pid != strconv.Itoa(os.Getpid()) || count == "" {
		return nil, nil // they are for another process
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > mostInherited {
		return nil, fmt.Errorf("LISTEN_FDS=%.20q: it is no number of sockets from 0 to %d", count, mostInherited)
	}
	names := strings.Split(list, ":")
	if list != "" && len(names) != n {
		return nil, fmt.Errorf("LISTEN_FDNAMES has %d names for %d sockets", len(names), n)
	}
	all := make([]proxy.Inherited, n)
	for i := range all {
		all[i] = proxy.Inherited{FD: firstInherited + i, Name: "unknown"} // as systemd calls them
		if list != "" {
			all[i].Name = names[i]
		}
	}
	return all, nil
}

// checkInherited returns an error about the sockets that no service has taken, or err, which is what came of binding.
func (r *running) checkInherited(err error) error {
	left := r.control.Server().Unclaimed()
	if len(left) == 0 {
		return err
	}
	where := make(map[string]string) // services listen
	for _, svc := range r.control.Server().Services() {
		var all []string
		for _, l := range svc.Config().Listeners {
			all = append(all, l.String())
		}
		where[svc.Name] = strings.Join(all, ", ")
	}
	if err != nil {
		unbound, ok := errors.AsType[*proxy.ListenError](err)
		if !ok {
			return err
		}
		where = map[string]string{unbound.Service: unbound.Address}
	}
	var faults []string
	for _, in := range left {
		if at := where[in.Name]; at != "" {
			faults = append(faults, fmt.Sprintf("%s (%v), but service %s listens on %s", in.Name, in.At, in.Name, at))
		} else if err == nil {
			faults = append(faults, fmt.Sprintf("%s (%v), where no service listens", in.Name, in.At))
		}
	}
	if len(faults) == 0 {
		return err
	}
	return errors.New("systemd passed " + strings.Join(faults, "; "))
}
