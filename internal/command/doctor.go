package command

import (
	"bufio"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"usher/internal/config"
	"usher/internal/doctor"
	"usher/proxy"
)

func (p *program) doctorCommand() *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "says what this machine gives, what it means, and which line changes it",
		ArgsUsage: "[LISTEN=BACKEND...]", Description: doctorHelp,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "strict", Usage: "exit status 1 if something is low"}, outputFlag(),
		}, allFlags()...),
		Action: p.doctor,
	}
}

const doctorHelp = `  usher doctor
  usher doctor :80=10.0.0.1:8080       judges also whether usher may run with these words
  usher doctor -c usher.yaml --strict -o json

  ok         as good as usher needs it
  note       works, and could be better
  low        limits soon: change this first
  unknown    this system does not tell

The lines below a row change what it says. Those of sysctl last until the next boot. Nothing is changed by itself.
`

// diagnosis is what usher doctor prints as an object.
type diagnosis struct {
	Findings []doctor.Finding `json:"findings"`
	Facts    *doctor.Facts    `json:"facts"`
}

// doctor judges this machine, for the words of the command line if there are any.
func (p *program) doctor(c *cli.Context) error {
	out, err := p.output(c)
	if err != nil {
		return err
	}
	plan, err := planOf(c)
	if err != nil {
		return err
	}
	facts, err := doctor.Probe(c.Context, questionOf(plan))
	if err != nil {
		return err
	}
	found := doctor.Judge(facts)
	if out.isObject() {
		err = out.object(out.w, diagnosis{found, facts})
	} else {
		err = writeFindings(bufio.NewWriter(out.w), found)
	}
	if low := doctor.Items(found, doctor.Low); err == nil && c.Bool("strict") && len(low) > 0 {
		err = fmt.Errorf("low: %s", strings.Join(low, ", "))
	}
	return err
}

func questionOf(plan *config.Config) doctor.Question {
	return doctor.Question{
		Services: plan.Services,
		Options:  proxy.Options{Engine: plan.Process.Engine, Workers: plan.Process.Workers, MaxConns: plan.Process.MaxConns},
	}
}

// writeFindings writes a row for each finding, and below it the lines that change it.
func writeFindings(w *bufio.Writer, all []doctor.Finding) error {
	rows := [][]string{{"LEVEL", "ITEM", "IS", "MEANS"}}
	for _, f := range all {
		rows = append(rows, []string{string(f.Level), f.Item, f.Is, f.Means})
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			row[i] = printable(cell)
			if cell == "" {
				row[i] = "-"
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	const gap = 2
	for i, row := range rows {
		for j, cell := range row[:len(row)-1] {
			w.WriteString(cell + strings.Repeat(" ", widths[j]-utf8.RuneCountInString(cell)+gap))
		}
		w.WriteString(row[len(row)-1] + "\n")
		if i == 0 {
			continue
		}
		for _, line := range all[i-1].Change {
			w.WriteString(strings.Repeat(" ", widths[0]+gap) + "> " + printable(line) + "\n")
		}
	}
	return w.Flush()
}
