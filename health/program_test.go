package health_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// asProgram is the first argument when a check of kind exec runs this binary.
const asProgram = "as-a-program"

// program executes words in order.
func program(words []string) {
	for len(words) > 0 {
		word, value, _ := strings.Cut(words[0], "=")
		words = words[1:]
		switch word {
		case "exit":
			code, _ := strconv.Atoi(value)
			os.Exit(code)
		case "say":
			fmt.Fprintln(os.Stderr, value)
		case "print":
			fmt.Println(value)
		case "environment":
			_ = os.WriteFile(value, []byte(strings.Join(os.Environ(), "\n")+"\n"+strings.Join(os.Args[2:], "\n")), 0o600)
		case "input":
			if b, err := io.ReadAll(os.Stdin); err != nil || len(b) > 0 {
				os.Exit(9)
			}
		case "flood":
			to := map[string]io.Writer{"out": os.Stdout, "err": os.Stderr}[value]
			w := bufio.NewWriter(to)
			for range 64 << 10 {
				if _, err := fmt.Fprintf(w, "%0128d\n", 1); err != nil {
					os.Exit(8)
				}
			}
			_ = w.Flush()
		case "child":
			// A child that shares its parent's output and stays. Its id goes to a file.
			child := exec.Command(os.Args[0], asProgram, "sleep")
			child.Stdout, child.Stderr = os.Stdout, os.Stderr
			if err := child.Start(); err != nil {
				os.Exit(7)
			}
			note(value, child.Process.Pid)
		case "mark":
			if os.Mkdir(value+"/"+strconv.Itoa(os.Getpid()), 0o700) != nil {
				os.Exit(5)
			}
		case "me":
			note(value, os.Getpid())
		case "sleep":
			time.Sleep(time.Hour)
		}
	}
}

// note writes a process id to a file atomically.
func note(path string, pid int) {
	if os.WriteFile(path+"~", strconv.AppendInt(nil, int64(pid), 10), 0o600) != nil || os.Rename(path+"~", path) != nil {
		os.Exit(6)
	}
}
