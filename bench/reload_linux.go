package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"usher/internal/api"
	"usher/internal/configfile"
)

// reloadStartLimit bounds a start, and each change.
const reloadStartLimit = time.Minute

// prepareStudy raises the limit of descriptors, and builds usher in a new folder, which the caller removes.
func prepareStudy(ctx context.Context) (files uint64, dir, binary string, err error) {
	if files, err = raiseFileLimit(wantFiles); err != nil {
		return 0, "", "", err
	}
	if dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return 0, "", "", err
	}
	if binary, _, err = buildUsher(ctx, dir); err != nil {
		return 0, "", "", errors.Join(err, os.RemoveAll(dir))
	}
	return files, dir, binary, nil
}

func runReload(ctx context.Context, c reloadConfig, o studyOptions, progress io.Writer) ([]byte, error) {
	runtime.LockOSThread() // the kernel ends a child with the thread that began it
	files, dir, binary, err := prepareStudy(ctx)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	r := newReloadResults(c, files)
	for round := range o.rounds {
		fmt.Fprintf(progress, "round %d of %d\n", round+1, o.rounds)
		if err := r.round(ctx, binary, dir); err != nil {
			return nil, err
		}
	}
	return r.text(o), nil
}

// reloadRun is one process that changes.
type reloadRun struct {
	*reloadResults
	file   string
	now    reloadFile
	pid    int
	client *api.Client
	http   http.Client
}

// round measures all steps with one process.
func (r *reloadResults) round(ctx context.Context, binary, dir string) error {
	run := &reloadRun{reloadResults: r, file: filepath.Join(dir, "usher.yaml"), now: reloadFile{r.reloadConfig, 1, 1, 0}}
	socket := filepath.Join(dir, "control.sock")
	run.client = api.NewClient(socket)
	run.http.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	if err := run.write(); err != nil {
		return err
	}
	cmd := exec.Command(binary, "-c", run.file, "--control", socket)
	began := time.Now()
	usher, err := launch(cmd, nil)
	if err != nil {
		return err
	}
	defer usher.kill()
	run.pid = cmd.Process.Pid
	if err := run.await(ctx, usher.done, run.isReady); err != nil {
		return fmt.Errorf("start: %w\n%s", err, usher.output)
	}
	used, err := cpuClock(processClock(run.pid))
	if err != nil {
		return err
	}
	if err := run.note(atStart, used, time.Since(began)); err != nil {
		return err
	}
	most, err := run.status("VmHWM:")
	if err != nil {
		return err
	}
	r.mostAtStart = append(r.mostAtStart, most)
	for _, step := range []func(context.Context) error{run.reloads, run.commands, run.changeAll} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("%w\n%s", err, usher.output)
		}
	}
	if most, err = run.status("VmHWM:"); err == nil {
		r.most = append(r.most, most)
	}
	return err
}

func (r *reloadRun) write() error {
	text := r.now.text()
	r.fileBytes = len(text)
	return os.WriteFile(r.file, text, 0o600)
}

// isReady asks whether usher serves.
func (r *reloadRun) isReady(ctx context.Context) (bool, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://usher/readyz", nil)
	if err != nil {
		return false, err
	}
	answer, err := r.http.Do(request)
	if err != nil {
		return false, nil // it does not listen yet
	}
	defer answer.Body.Close()
	return answer.StatusCode == http.StatusOK, nil
}

// await asks until the answer is yes.
func (r *reloadRun) await(ctx context.Context, ended <-chan struct{}, is question) error {
	ctx, cancel := context.WithTimeout(ctx, reloadStartLimit)
	defer cancel()
	for {
		if yes, err := is(ctx); yes || err != nil {
			return err
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ended:
			return errors.New("usher has ended")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// question asks usher whether a change has come into effect.
type question func(context.Context) (bool, error)

// isWeight asks whether a backend of a service has a weight.
func (r *reloadRun) isWeight(service, address string, weight int) question {
	return func(ctx context.Context) (bool, error) {
		s, err := r.client.Service(ctx, service)
		if err != nil {
			return false, err
		}
		for _, b := range s.Services[0].Backends {
			if b.Address == address {
				return b.Weight == weight, nil
			}
		}
		return false, nil
	}
}

// reloadChange is the i-th change of its kind.
type reloadChange struct {
	prepare func(i int) error // is not measured; nil: nothing
	do      func(i int) error
	isDone  func(i int) question // nil: do returns when it is
}

// measure notes the mean of some changes.
func (r *reloadRun) measure(ctx context.Context, step string, times int, c reloadChange) error {
	var cpu, wall time.Duration
	for i := range times {
		if c.prepare != nil {
			if err := c.prepare(i); err != nil {
				return err
			}
		}
		before, err := cpuClock(processClock(r.pid))
		if err != nil {
			return err
		}
		began := time.Now()
		if err = c.do(i); err == nil && c.isDone != nil {
			err = r.await(ctx, nil, c.isDone(i))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
		wall += time.Since(began)
		after, err := cpuClock(processClock(r.pid))
		if err != nil {
			return err
		}
		cpu += after - before
	}
	return r.note(step, cpu/time.Duration(times), wall/time.Duration(times))
}

func (r *reloadRun) note(step string, cpu, wall time.Duration) error {
	memory, err := r.status("VmRSS:")
	r.cpu[step] = append(r.cpu[step], inMS(cpu))
	r.wall[step] = append(r.wall[step], inMS(wall))
	r.memory[step] = append(r.memory[step], memory)
	return err
}

func inMS(d time.Duration) float64 { return d.Seconds() * 1000 }

func (r *reloadRun) status(name string) (float64, error) { return statusOf(r.pid, name) }

// statusOf reads a size in MB from the status of a process.
func statusOf(pid int, name string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(text, []byte(name))
	fields := bytes.Fields(rest)
	if len(fields) == 0 {
		return 0, fmt.Errorf("process %d has no %s", pid, name)
	}
	kb, err := strconv.ParseFloat(string(fields[0]), 64)
	return kb / 1024, err
}

// reloads measures changes of the file, and what of them is reading it.
func (r *reloadRun) reloads(ctx context.Context) error {
	reload := func(int) error { return r.client.Reload(ctx) }
	if err := r.measure(ctx, unchanged, r.changes, reloadChange{do: reload}); err != nil {
		return err
	}
	service, backend := serviceName(r.changedService()), r.backend(r.changedService(), r.changedBackend())
	weigh := func(weight int) error {
		r.now.weight = weight
		return r.write()
	}
	err := r.measure(ctx, oneInFile, r.changes, reloadChange{
		prepare: func(i int) error { return weigh(2 + i) },
		do:      reload,
		isDone:  func(i int) question { return r.isWeight(service, backend, 2+i) },
	})
	if err != nil {
		return err
	}
	if err := r.measureReading(func(i int) error { return weigh(100 + i) }); err != nil {
		return err
	}
	round := len(r.cpu[oneInFile]) - 1
	r.cpu[beyond] = append(r.cpu[beyond], r.cpu[oneInFile][round]-r.cpu[reading][round])
	return r.measure(ctx, oneMore, r.changes, reloadChange{
		prepare: func(i int) error {
			r.now.extra = 1 + i
			return r.write()
		},
		do:     reload,
		isDone: func(i int) question { return r.isWeight(serviceName(r.services+i), r.backend(r.services+i, 0), 1) },
	})
}

// measureReading reads files in this process that differ in one backend.
func (r *reloadRun) measureReading(change func(i int) error) error {
	before, err := configfile.Load(r.file, nil)
	if err != nil {
		return err
	}
	self := processClock(os.Getpid())
	var cpu, wall time.Duration
	for i := range r.changes {
		if err := change(i); err != nil {
			return err
		}
		began := time.Now()
		from, err := cpuClock(self)
		if err != nil {
			return err
		}
		file, err := configfile.Load(r.file, before)
		if err != nil {
			return err
		}
		file.Reuse(before)
		before = file
		to, err := cpuClock(self)
		if err != nil {
			return err
		}
		cpu, wall = cpu+to-from, wall+time.Since(began)
	}
	r.cpu[reading] = append(r.cpu[reading], inMS(cpu)/float64(r.changes))
	r.wall[reading] = append(r.wall[reading], inMS(wall)/float64(r.changes))
	return nil
}

// commands measures changes by the control socket.
func (r *reloadRun) commands(ctx context.Context) error {
	name := func(i int) string { return fmt.Sprint("mine-", i) }
	first := r.backend(0, 0)
	var backends []string
	for j := range r.backends {
		backends = append(backends, strconv.Quote(r.backend(0, j)))
	}
	for _, step := range []struct {
		name string
		reloadChange
	}{
		{addByAPI, reloadChange{
			do: func(i int) error {
				return r.client.AddService(ctx, fmt.Appendf(nil, `{"name": %q, "listen": "127.0.0.1:0", "health": "off", "backends": [%s]}`,
					name(i), strings.Join(backends, ", ")))
			},
			isDone: func(i int) question { return r.isWeight(name(i), first, 1) },
		}},
		{oneByAPI, reloadChange{
			do: func(i int) error {
				return r.client.SetBackend(ctx, name(0), first, fmt.Appendf(nil, `{"weight": %d}`, 2+i))
			},
			isDone: func(i int) question { return r.isWeight(name(0), first, 2+i) },
		}},
		{override, reloadChange{do: func(i int) error {
			return r.client.SetOverride(ctx, serviceName(i), r.backend(i, 0), api.Override{Admin: "drain"})
		}}},
		{removeByAPI, reloadChange{do: func(i int) error { return r.client.RemoveService(ctx, name(i)) }}},
	} {
		if err := r.measure(ctx, step.name, r.changes, step.reloadChange); err != nil {
			return err
		}
	}
	return nil
}

// changeAll measures a file in which every service is another.
func (r *reloadRun) changeAll(ctx context.Context) error {
	service, backend := serviceName(r.services-1), r.backend(r.services-1, 0)
	return r.measure(ctx, allInFile, 1, reloadChange{
		prepare: func(int) error {
			r.now.first, r.now.extra = 3, 0
			return r.write()
		},
		do:     func(int) error { return r.client.Reload(ctx) },
		isDone: func(int) question { return r.isWeight(service, backend, 3) },
	})
}
