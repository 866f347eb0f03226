package main

import (
	"bytes"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// readmeVariable names the block that this process runs.
const readmeVariable = "USHER_README_BLOCK"

// The commands of the README work as they are typed, at the ports that they name. Each block has a network of its own,
// where the test is root, and processes that end with it.
func TestReadmeCommands(t *testing.T) {
	t.Parallel()
	for first, block := range readmeBlocks() {
		if block.stage == nil {
			continue
		}
		t.Run(first, func(t *testing.T) {
			t.Parallel()
			runtime.LockOSThread() // Pdeathsig is of the thread
			defer runtime.UnlockOSThread()
			cmd := exec.Command(os.Args[0], "-test.run=^TestReadmeCommandsOfBlock$", "-test.v", "-test.timeout=5m")
			cmd.Env = append(os.Environ(), readmeVariable+"="+first)
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID,
				UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
				Pdeathsig:   syscall.SIGKILL,
			}
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Skipf("no network of its own: %v", err)
			}
			err := cmd.Wait()
			if reason := regexp.MustCompile(`_test\.go:\d+: (.*)\n--- SKIP`).FindStringSubmatch(out.String()); reason != nil {
				t.Skip(reason[1])
			}
			if err != nil || !strings.Contains(out.String(), "--- PASS") {
				t.Errorf("%v\n%s", err, &out)
			}
		})
	}
}

// TestReadmeCommandsOfBlock is what TestReadmeCommands runs in a network of its own.
func TestReadmeCommandsOfBlock(t *testing.T) {
	first := os.Getenv(readmeVariable)
	if first == "" {
		t.Skip("this is a part of TestReadmeCommands")
	}
	if err := raiseLoopback(); err != nil {
		t.Skipf("no right to its own network: %v", err)
	}
	block := readmeBlocks()[first]
	for command := range block.want {
		if program, _, _ := strings.Cut(command, " "); !isInstalled(program) {
			t.Skip(program + " is not installed")
		}
	}
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	// Sockets have short paths.
	home, err := os.MkdirTemp("", "readme")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	s := &readmeStage{t: t, root: root, home: home, address: addressOfLoopback()}
	if err := os.Mkdir(s.file("run"), 0o700); err != nil {
		t.Fatal(err)
	}
	block.stage(s)
	text := textOfBlock(t, first)
	if block.rewrite != nil {
		text = block.rewrite.Replace(text)
	}
	s.run(text, block)
}

func isInstalled(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

func textOfBlock(t *testing.T, first string) string {
	t.Helper()
	for _, text := range readmeCode(t) {
		if firstLine(text) == first {
			return text
		}
	}
	t.Fatal("README.md has no such block")
	return ""
}

// run runs a block: what runs usher, and then the commands that stand below, one after the other.
func (s *readmeStage) run(text string, block readmeBlock) {
	start, commands, isDivided := strings.Cut(text, otherTerminal)
	if !isDivided {
		start, commands = "", text
	}
	log := s.file("log")
	if start != "" {
		s.start(start, log)
	}
	for line := range strings.Lines(strings.ReplaceAll(commands, "\\\n", "")) {
		command := strings.TrimSpace(line)
		if block.endless != "" && strings.HasPrefix(command, block.endless) {
			s.interrupt(command)
			continue
		}
		want := ""
		for words, pattern := range block.want {
			if strings.HasPrefix(command, words) {
				want = pattern
			}
		}
		re := regexp.MustCompile("(?m)" + want)
		for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
			out, err := s.shell(command).CombinedOutput()
			if err == nil && re.Match(out) {
				break
			}
			if want == "" || time.Since(began) > patience {
				said, _ := os.ReadFile(log)
				s.t.Fatalf("%s: %v, want %q\n%s\nlog of usher:\n%s", command, err, want, out, said)
			}
		}
	}
}

// start runs what a terminal would show, and waits until usher answers. It ends with the test.
func (s *readmeStage) start(text, log string) {
	s.t.Helper()
	file, err := os.Create(log)
	if err != nil {
		s.t.Fatal(err)
	}
	defer file.Close()
	cmd := s.shell(text)
	cmd.Stdout, cmd.Stderr = file, file
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	s.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-done
	})
	for began := time.Now(); s.shell("usher ls").Run() != nil; time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-done:
			done <- err
			s.t.Fatalf("%s has ended: %v\n%s", text, err, readFile(s.t, log))
		default:
		}
		if time.Since(began) > patience {
			s.t.Fatalf("%s does not answer\n%s", text, readFile(s.t, log))
		}
	}
}

// interrupt runs a command, and presses Ctrl-C once it waits.
func (s *readmeStage) interrupt(command string) {
	s.t.Helper()
	words, _, _ := strings.Cut(command, "#")
	const ended = " || [ $? = 130 ]" // by SIGINT
	if out, err := s.shell("timeout --preserve-status -s INT 1 " + words + ended).CombinedOutput(); err != nil {
		s.t.Errorf("%s: %v\n%s", command, err, out)
	}
}

func (s *readmeStage) shell(text string) *exec.Cmd {
	cmd := exec.Command("bash", "-ec", text)
	cmd.Dir = s.home
	cmd.Env = append([]string{"HOME=" + s.home, "PATH=" + os.Getenv("PATH"), "XDG_RUNTIME_DIR=" + s.file("run"), "TMPDIR=" + s.home}, s.env...)
	return cmd
}

// raiseLoopback makes a new network usable.
func raiseLoopback() error {
	return loopbackRequest("lo", func(fd int, r *unix.Ifreq) error {
		r.SetUint16(unix.IFF_UP)
		return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
	})
}

// addressOfLoopback returns what gives the machine one more address.
func addressOfLoopback() func(netip.Addr) error {
	given := make(map[netip.Addr]bool)
	return func(a netip.Addr) error {
		if given[a] {
			return nil
		}
		given[a] = true
		return loopbackRequest("lo:"+string(rune('a'+len(given))), func(fd int, r *unix.Ifreq) error {
			address := a.As4()
			err := r.SetInet4Addr(address[:])
			if err == nil {
				err = unix.IoctlIfreq(fd, unix.SIOCSIFADDR, r)
			}
			if err == nil {
				err = r.SetInet4Addr([]byte{255, 255, 255, 255}) // the address alone, not its class
			}
			if err == nil {
				err = unix.IoctlIfreq(fd, unix.SIOCSIFNETMASK, r)
			}
			return err
		})
	}
}

func loopbackRequest(name string, do func(fd int, r *unix.Ifreq) error) error {
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return do(fd, r)
}
