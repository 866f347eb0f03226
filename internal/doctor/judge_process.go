package doctor

import (
	"fmt"
	"strings"

	"usher/internal/figures"
)

const (
	// manyFlows is what a machine should give for a busy service.
	manyFlows = 10_000
	// fewFlows are soon used up.
	fewFlows = 1000
	// memoryOfFlow is what an idle TCP connection takes of usher and of the kernel, with both of its sockets.
	memoryOfFlow = 12 << 10
	// descriptorsWanted is what the lines of change ask for: half a million flows.
	descriptorsWanted = 1 << 20
	// watchesOfFlow are its two sockets in an epoll instance.
	watchesOfFlow = 2
)

func judgeEngine(f *Facts) Finding {
	is := fmt.Sprintf("%s, on %s/%s", f.Forecast.Engine, f.OS, f.Arch)
	if f.Kernel != "" {
		is += " " + f.Kernel
	}
	if f.Forecast.Engine == "epoll" {
		return Finding{Level: OK, Is: is, Means: "an event loop for each worker"}
	}
	means := "goroutines: twice the CPU time for a connection"
	if _, why, ok := strings.Cut(f.Forecast.EngineReason, "(auto: "); ok {
		means += "; " + strings.TrimSuffix(why, ")")
	}
	if f.OS == "linux" {
		return Finding{Level: Note, Is: is, Means: means}
	}
	return Finding{Level: OK, Is: is, Means: means}
}

func judgeContainer(f *Facts) Finding {
	switch {
	case f.Sandbox == "gVisor":
		return Finding{Level: Note, Is: "gVisor", Means: "each system call costs several times more than on Linux"}
	case f.Sandbox == "WSL":
		return Finding{Level: OK, Is: "WSL", Means: "clients outside Windows need its port forwarding"}
	case f.Container != "":
		return Finding{Level: OK, Is: f.Container, Means: "limits are those of the container; sysctls below net. are its own"}
	}
	return Finding{Level: OK, Is: "none found", Means: "limits are those of this machine"}
}

func judgeCPUs(f *Facts) Finding {
	found := Finding{
		Level: OK, Is: fmt.Sprintf("%s, %s", figures.Count(f.AllowedCPUs, "CPU"), figures.Count(f.Forecast.Workers, "worker")), Means: "a worker for each CPU",
	}
	switch {
	case f.Forecast.Workers > f.AllowedCPUs:
		found.Level, found.Means = Note, "more workers than CPUs: they take turns"
	case f.Forecast.Workers < f.AllowedCPUs:
		found.Level, found.Means = Note, "a CPU quota, GOMAXPROCS or --workers leaves CPUs unused"
		found.Change = []string{inUnit(fmt.Sprintf("CPUQuota=%d%%", 100*f.AllowedCPUs)), "docker run --cpus=" + fmt.Sprint(f.AllowedCPUs)}
		if f.Container == "kubernetes" {
			found.Change = []string{fmt.Sprintf(`limits: {cpu: "%d"}   # resources of the container`, f.AllowedCPUs)}
		}
	case f.CPUs > f.AllowedCPUs:
		found.Level, found.Means = Note, fmt.Sprintf("the affinity of this process leaves %d of %d CPUs unused", f.CPUs-f.AllowedCPUs, f.CPUs)
		found.Change = []string{fmt.Sprintf("taskset -c 0-%d usher ...", f.CPUs-1)}
	}
	return found
}

func judgeMemory(f *Facts) Finding {
	have, is := f.Memory, sizeText(f.Memory)
	if f.MemoryLimit > 0 && (have == 0 || f.MemoryLimit < have) {
		have, is = f.MemoryLimit, sizeText(f.MemoryLimit)+" (limit of the cgroup)"
	}
	if have == 0 {
		return Finding{}
	}
	flows := f.Forecast.MaxConns
	need := int64(flows) * memoryOfFlow
	found := Finding{Level: OK, Is: is, Means: fmt.Sprintf("%d idle connections take about %s of it", flows, sizeText(need))}
	if need > have {
		found.Level, found.Change = Low, []string{fmt.Sprintf("usher --max-conns %d ...", have/2/memoryOfFlow)}
	}
	return found
}

func judgeClock(f *Facts) Finding {
	switch f.Clock {
	case "":
		return Finding{}
	case "tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "timebase", "riscv_clocksource":
		return Finding{Level: OK, Is: f.Clock, Means: "reading the time takes no system call"}
	}
	found := Finding{Level: Note, Is: f.Clock, Means: "each look at the time costs a system call"}
	if f.HasTimeCounter {
		found.Change = []string{"echo tsc | sudo tee /sys/devices/system/clocksource/clocksource0/current_clocksource"}
	}
	return found
}

func judgeDescriptors(f *Facts) Finding {
	have, flows := f.Forecast.Descriptors, f.Forecast.MaxConns
	if have == 0 {
		return Finding{Level: Unknown, Means: f.Forecast.FlowsReason}
	}
	found := Finding{Level: OK, Is: fmt.Sprint(have), Means: fmt.Sprintf("max-conns %d: a flow takes two", flows)}
	if f.SoftDescriptors > 0 && f.SoftDescriptors < have {
		found.Is += fmt.Sprintf(" (%d, which usher raises)", f.SoftDescriptors)
	}
	switch wanted := f.MaxConnsWanted; {
	case flows == 0:
		found.Level, found.Means = Low, f.Forecast.FlowsReason
	case wanted > flows:
		found.Level, found.Means = Low, fmt.Sprintf("max-conns %d, not the %d that are asked for", flows, wanted)
	case wanted > 0:
		found.Means = fmt.Sprintf("max-conns %d, as asked for", flows)
	case flows < fewFlows:
		found.Level = Low
	case flows < manyFlows:
		found.Level = Note
	}
	if found.Level != OK {
		found.Change = f.moreDescriptors()
	}
	return found
}

// moreDescriptors returns the lines that raise the hard limit, of which those of the surroundings count.
func (f *Facts) moreDescriptors() []string {
	want := int64(descriptorsWanted)
	if most, ok := f.sysctl("fs.nr_open", 0); ok {
		want = min(want, most)
	}
	switch {
	case f.OS == "darwin" || f.OS == "freebsd":
		return []string{fmt.Sprintf("sudo sysctl kern.maxfilesperproc=%d", want)}
	case f.OS != "linux":
		return nil
	case f.Container == "kubernetes":
		return []string{fmt.Sprintf("LimitNOFILE=%d   # [Service] in the unit of the node's container runtime", want)}
	case f.Container != "":
		return []string{fmt.Sprintf("docker run --ulimit nofile=%d:%d", want, want)}
	case f.IsRoot:
		return []string{fmt.Sprintf("ulimit -n %d", want), inUnit(fmt.Sprintf("LimitNOFILE=%d", want))}
	}
	return []string{fmt.Sprintf("sudo prlimit --pid $$ --nofile=%d:%d", want, want), inUnit(fmt.Sprintf("LimitNOFILE=%d", want))}
}

func judgeWatches(f *Facts) Finding {
	have, ok := f.sysctl("fs.epoll.max_user_watches", 0)
	if !ok {
		return Finding{}
	}
	need := int64(f.Forecast.MaxConns) * watchesOfFlow
	found := Finding{Level: OK, Is: fmt.Sprint(have), Means: fmt.Sprintf("enough for %d flows", have/watchesOfFlow)}
	if have < need {
		found.Level, found.Means = Low, fmt.Sprintf("flows after the first %d are refused", have/watchesOfFlow)
		found.Change = []string{setSysctl("fs.epoll.max_user_watches", need*2)}
	}
	return found
}

func judgeNamespaces(f *Facts) Finding {
	if f.CanUnshare == nil {
		return Finding{}
	}
	if *f.CanUnshare {
		return Finding{Level: OK, Is: "may be made", Means: "unshare -rn has a network of its own, to try things in"}
	}
	found := Finding{Level: Note, Is: "refused", Means: "no private network for tries and tests; usher does without"}
	for _, s := range []struct {
		name          string
		refuses, sets int64
	}{
		{"user.max_user_namespaces", 0, 10000},
		{"kernel.unprivileged_userns_clone", 0, 1},
		{"kernel.apparmor_restrict_unprivileged_userns", 1, 0},
	} {
		if value, ok := f.sysctl(s.name, 0); ok && value == s.refuses {
			found.Change = append(found.Change, setSysctl(s.name, s.sets))
		}
	}
	return found
}

// judgeUshers has a finding for each usher of this user that runs.
func judgeUshers(f *Facts) (all []Finding) {
	if len(f.Ushers) == 0 {
		return []Finding{{Level: OK, Item: "ushers", Is: "none runs", Means: "of this user, with a control socket in its folder"}}
	}
	for _, p := range f.Ushers {
		const percent = 100
		used := 0
		if p.MaxConns > 0 {
			used = percent * p.Flows / p.MaxConns
		}
		found := Finding{
			Level: OK, Item: "usher " + p.Name, Is: fmt.Sprintf("pid %d, %s, %s", p.PID, p.Engine, p.Version),
			Means: fmt.Sprintf("%d of %s: %d%%", p.Flows, figures.Count(p.MaxConns, "flow"), used),
		}
		switch {
		case used >= 95:
			found.Level = Low
		case used >= 80:
			found.Level = Note
		}
		if found.Level != OK {
			found.Change = f.moreDescriptors()
		}
		all = append(all, found)
	}
	return all
}
