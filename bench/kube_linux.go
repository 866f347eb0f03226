package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"usher/internal/kube/kubetest"
)

// kubePatience bounds a start, and each change.
const kubePatience = time.Minute

// nobody is who usher runs as.
const nobody = 65534

func runKube(ctx context.Context, c kubeConfig, o studyOptions, progress io.Writer) ([]byte, error) {
	if os.Getuid() != 0 {
		return nil, errors.New("it needs a network namespace of its own: run it as root (usher itself runs as nobody)")
	}
	runtime.LockOSThread() // it has the namespace, and the kernel ends a child with the thread that began it
	files, dir, binary, err := prepareStudy(ctx)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := enterKubeNamespace(); err != nil {
		return nil, err
	}
	endpoints, err := listenAsEndpoints()
	if err != nil {
		return nil, err
	}
	defer endpoints.close()
	r := newKubeResults(c, files)
	for round := range o.rounds {
		for _, t := range c.trials() {
			fmt.Fprintf(progress, "round %d of %d, %s\n", round+1, o.rounds, t)
			if err := r.measure(ctx, t, binary, dir); err != nil {
				return nil, fmt.Errorf("%s: %w", t, err)
			}
		}
	}
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return nil, err
	}
	r.load = strings.Join(strings.Fields(string(text))[:3], ", ")
	return r.text(o), nil
}

// enterKubeNamespace moves the calling thread to a network namespace in which all addresses of Services and endpoints are
// this machine's.
func enterKubeNamespace() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	for _, words := range [][]string{{"link", "set", "lo", "up"}, {"route", "add", "local", "10.0.0.0/8", "dev", "lo"}} {
		if out, err := exec.Command("ip", words...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %q: %w: %s", words, err, out)
		}
	}
	return nil
}

// kubeRun is one usher kube, and where its objects come from.
type kubeRun struct {
	*kubeResults
	trial
	dir    string // of manifests
	server *kubetest.Server
	pid    int
	ended  chan struct{}
	fresh  int // endpoints so far, those that are gone included
	now    [][]netip.Addr
}

// times is how many changes are measured.
func (r *kubeRun) times() int {
	if r.isFolder {
		return r.few
	}
	return r.many
}

// random returns a Service, the same one for an i each time that the program runs.
func (r *kubeRun) random(i int) int { return rand.New(rand.NewPCG(1, uint64(i))).IntN(r.services) }

// measure starts usher once, and does all that is measured with one process.
func (r *kubeResults) measure(ctx context.Context, t trial, binary, dir string) (err error) {
	run := &kubeRun{kubeResults: r, trial: t, dir: filepath.Join(dir, "manifests"), fresh: (t.services + r.created) * r.endpoints}
	words, err := run.fill(dir)
	if err != nil {
		return err
	}
	defer run.remove()
	cmd := exec.Command(binary, append([]string{"kube", "--control", "off", "--log-format", "json"}, words...)...)
	began := time.Now()
	usher, err := launch(cmd, &syscall.Credential{Uid: nobody, Gid: nobody})
	if err != nil {
		return err
	}
	run.pid, run.ended = cmd.Process.Pid, usher.done
	defer func() {
		usher.kill()
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, usher.output)
		}
	}()
	if err := run.start(ctx, began); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{run.idle, run.changes, run.changesUnseen, run.creations} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return run.peak(atMost)
}

// fill makes the objects, and returns the words that lead usher to them.
func (r *kubeRun) fill(dir string) (words []string, err error) {
	if err := os.Chmod(dir, 0o755); err != nil { // nobody reads it
		return nil, err
	}
	r.now = make([][]netip.Addr, r.services)
	for i := range r.now {
		r.now[i] = r.endpointsOf(i)
	}
	if r.isFolder {
		if err := os.Mkdir(r.dir, 0o755); err != nil {
			return nil, err
		}
		for i := range r.now {
			if err := r.write(i); err != nil {
				return nil, err
			}
		}
		return []string{"--manifests", r.dir}, nil
	}
	if r.server, err = kubetest.Start(); err != nil {
		return nil, err
	}
	for i := range r.now {
		if err := errors.Join(r.server.Set(kubeService(i)), r.server.Set(kubeSlice(i, r.now[i]))); err != nil {
			return nil, err
		}
	}
	file := filepath.Join(dir, "kubeconfig")
	return []string{"--kubeconfig", file}, os.WriteFile(file, r.server.Kubeconfig(), 0o644)
}

// write makes the endpoints of a Service known.
func (r *kubeRun) write(service int) error {
	if !r.isFolder {
		return r.server.Set(kubeSlice(service, r.now[service]))
	}
	text, err := kubeManifest(service, r.now[service])
	if err != nil {
		return err
	}
	file, next := filepath.Join(r.dir, kubeName(service)+".yaml"), filepath.Join(r.dir, ".next")
	return errors.Join(os.WriteFile(next, text, 0o644), os.Rename(next, file))
}

func (r *kubeRun) remove() {
	if r.server != nil {
		r.server.Close()
	}
	_ = os.RemoveAll(r.dir)
}

// start waits until the last Service serves, and then asks all others once.
func (r *kubeRun) start(ctx context.Context, began time.Time) error {
	if err := r.await(ctx, r.services-1, r.now[r.services-1]); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	r.note(coldStart, time.Since(began).Seconds())
	used, err := cpuClock(processClock(r.pid))
	if err != nil {
		return err
	}
	r.note(coldCPU, used.Seconds())
	if err := r.peak(atMostAtStart); err != nil {
		return err
	}
	for i, endpoints := range r.now {
		got, err := ask(clusterIPOf(i))
		if err != nil || !slices.Contains(endpoints, got) {
			return fmt.Errorf("%s: endpoint %v: %w", kubeName(i), got, err)
		}
	}
	return nil
}

// await connects until an endpoint of a Service is one of these.
func (r *kubeRun) await(ctx context.Context, service int, endpoints []netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, kubePatience)
	defer cancel()
	for {
		got, err := ask(clusterIPOf(service))
		if err == nil && slices.Contains(endpoints, got) {
			return nil
		}
		select {
		case <-r.ended:
			return errors.New("usher has ended")
		case <-ctx.Done():
			return fmt.Errorf("%s does not lead to %v: %v: %w", kubeName(service), endpoints, got, err)
		default:
		}
		if err != nil {
			time.Sleep(time.Millisecond) // it does not listen yet
		}
	}
}

// idle measures a process that nobody asks for anything.
func (r *kubeRun) idle(context.Context) error {
	const settle = 2 * time.Second // garbage of the start is collected
	time.Sleep(settle)
	before, err := cpuClock(processClock(r.pid))
	if err != nil {
		return err
	}
	began := time.Now()
	time.Sleep(r.idleTime)
	after, err := cpuClock(processClock(r.pid))
	if err != nil {
		return err
	}
	r.note(idleCPU, inMS(after-before)/time.Since(began).Seconds())
	memory, err := statusOf(r.pid, "VmRSS:")
	r.note(idleMemory, memory)
	return err
}

// replaceEndpoint gives a Service another endpoint in place of one, and returns it.
func (r *kubeRun) replaceEndpoint(service int) (netip.Addr, error) {
	r.now[service] = slices.Clone(r.now[service])
	added := endpointAt(r.fresh)
	r.now[service][r.fresh%r.endpoints] = added
	r.fresh++
	return added, r.write(service)
}

// changes measures how long it takes until clients reach an endpoint that is new.
func (r *kubeRun) changes(ctx context.Context) error {
	for i := range r.times() {
		service := r.random(i)
		began := time.Now()
		added, err := r.replaceEndpoint(service)
		if err == nil {
			err = r.await(ctx, service, []netip.Addr{added})
		}
		if err != nil {
			return fmt.Errorf("change %d: %w", i, err)
		}
		r.note(changeTime, inMS(time.Since(began)))
		time.Sleep(5 * time.Millisecond) // what usher does after it counts for no other change
	}
	return nil
}

// changesUnseen measures the CPU time of changes without a client.
func (r *kubeRun) changesUnseen(ctx context.Context) error {
	before, err := cpuClock(processClock(r.pid))
	if err != nil {
		return err
	}
	var service int
	var added netip.Addr
	for i := range r.times() {
		service = r.random(i + r.times())
		if added, err = r.replaceEndpoint(service); err != nil {
			return err
		}
		time.Sleep(r.pace())
	}
	if err := r.await(ctx, service, []netip.Addr{added}); err != nil {
		return err
	}
	after, err := cpuClock(processClock(r.pid))
	r.note(changeCPU, inMS(after-before)/float64(r.times()))
	return err
}

// creations measures Services that come one after the other: from the slice until a client is served.
func (r *kubeRun) creations(ctx context.Context) error {
	if r.isFolder {
		return nil
	}
	for i := range r.created {
		service := r.services + i
		r.now = append(r.now, r.endpointsOf(service))
		if err := r.server.Set(kubeService(service)); err != nil {
			return err
		}
		began := time.Now()
		err := r.write(service)
		if err == nil {
			err = r.await(ctx, service, r.now[service])
		}
		if err != nil {
			return err
		}
		r.note(creationTime, inMS(time.Since(began)))
	}
	return nil
}

func (r *kubeRun) note(figure string, v float64) { r.add(r.trial, figure, v) }

func (r *kubeRun) peak(figure string) error {
	most, err := statusOf(r.pid, "VmHWM:")
	r.note(figure, most)
	return err
}
