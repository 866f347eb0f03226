package app

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"

	"usher/internal/admin"
	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/metrics"
)

// maxRequest is how long requests of the API may go on after the end.
const maxRequest = time.Second

// process is a run as the API sees it: an admin.Process.
type process struct{ *running }

// Info returns what runs.
func (p process) Info() api.Process {
	server := p.control.Server()
	user, system := cpuTime()
	return api.Process{
		Name: p.name, PID: os.Getpid(), Version: p.env.Version, Started: p.began,
		Engine: server.Engine(), Workers: server.WorkerCount(), Flows: server.Open(), MaxConns: server.MaxConns(),
		UserSeconds: user.Seconds(), SystemSeconds: system.Seconds(), Config: p.begin.File, Admin: p.adminAt,
		Upgrades: p.upgraded.done, UpgradeError: p.upgraded.failure,
	}
}

var (
	errStarts = errors.New("usher starts")
	errDrains = errors.New("usher drains")
)

// metrics returns what is measured of the process itself.
func (r *running) metrics() metrics.Process {
	m := metrics.Process{Upgrades: r.upgraded.done}
	if r.out != nil {
		m.LostLines = r.out.lostLines()
	}
	if f := r.file.Load(); f != nil {
		m.Taken, m.IsRefused = f.Taken, f.IsRefused
	}
	return m
}

// Ready returns why no clients are served.
func (p process) Ready() error {
	switch {
	case p.stop.drain.Err() != nil:
		return errDrains
	case !p.serving.Load():
		return errStarts
	}
	return nil
}

// Stop has the run end, with now at once.
func (p process) Stop(now bool) { p.stop.stop(now) }

// openAPI opens the control socket and the admin address. A control socket in the usual place is a convenience: usher
// does without. What was asked for must be there: a path, and a name.
func (r *running) openAPI() error {
	p := r.settings.process
	socket, err := r.listenControl()
	_, isName := errors.AsType[*admin.NameError](err)
	switch {
	case err != nil && p.Control == "" && !isName:
		r.log.Warn("no control socket: commands such as usher ls do not reach this usher", zap.Error(err))
	case err != nil:
		return err
	}
	address, err := r.listenAdmin()
	if err != nil {
		if socket != nil {
			socket.Close()
		}
		return err
	}
	r.serveAPI(socket, address)
	return nil
}

// serveAPI serves the API on these listeners; nil is none.
func (r *running) serveAPI(socket, address *admin.Listener) {
	handler := admin.NewHandler(r.control, r.dialects, process{r}, metrics.Handler(r.control.Server(), r.metrics))
	p := r.settings.process
	r.name = p.Name
	if address != nil {
		r.adminAt = address.Addr().String()
	}
	if socket != nil {
		if r.name == "" || p.Control == "" {
			r.name = socket.Name() // where commands find it
		}
		r.socket = admin.Serve(socket, handler, r.log.Logger)
	}
	if address != nil {
		r.admin = admin.Serve(address, admin.NewGuard(handler, p.Admin, p.AdminTokenFile), r.log.Logger)
	}
}

// logServing logs that clients are served, and where the API is. A person reads which commands say more.
func (r *running) logServing() {
	var fields []zap.Field
	if r.socket != nil {
		fields = []zap.Field{zap.String("name", r.name), zap.Stringer("control", r.socket.Listener().Addr())}
	}
	if r.log.isConsole {
		r.log.Info("serving" + r.hint())
		r.log.Debug("control socket", fields...)
	} else {
		r.log.Info("serving", fields...)
	}
	if r.admin != nil {
		if r.log.isConsole {
			r.log.Info("page and metrics at http://" + r.adminAt + "/")
		} else {
			r.log.Info("admin address", zap.String("listen", r.adminAt))
		}
	}
}

// hint tells a person what says more than the log.
func (r *running) hint() string {
	var more []string
	if r.socket != nil {
		more = append(more, "usher ls and usher top show what happens")
	}
	if !r.log.Core().Enabled(zap.DebugLevel) {
		more = append(more, "--log-level debug has every setting and every flow")
	}
	if len(more) == 0 {
		return ""
	}
	return ": " + strings.Join(more, "; ")
}

// listenControl opens the control socket; it is nil if there shall be none.
func (r *running) listenControl() (*admin.Listener, error) {
	switch p := r.settings.process; p.Control {
	case config.ControlOff:
		return nil, nil
	case "":
		return admin.ListenControl(p.Name, r.defaultName())
	default:
		path, err := filepath.Abs(p.Control)
		if err != nil {
			return nil, err
		}
		return admin.ListenPath(path)
	}
}

// listenAdmin opens the admin address; it is nil if there shall be none.
func (r *running) listenAdmin() (*admin.Listener, error) {
	p := r.settings.process
	if p.Admin == (config.Addr{}) {
		return nil, nil
	}
	if p.AdminTokenFile != "" {
		if err := admin.CheckToken(p.AdminTokenFile); err != nil {
			return nil, err
		}
	}
	return admin.ListenAdmin(p.Admin)
}

// defaultName is the name of the source or of the first service; empty: there is neither.
func (r *running) defaultName() string {
	if r.begin.Source != nil {
		return r.begin.Source.Name()
	}
	if services := r.control.Plan().Services; len(services) > 0 {
		return services[0].Name
	}
	return ""
}

// closeAPI ends both. Requests that are under way have a moment.
func (r *running) closeAPI() {
	ctx, cancel := context.WithTimeout(context.Background(), maxRequest)
	defer cancel()
	for _, s := range []*admin.Server{r.admin, r.socket} {
		if s != nil {
			s.Close(ctx)
		}
	}
}
