package command

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"usher/internal/config"
	"usher/internal/doctor"
	"usher/internal/terminal"
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
		err = writeFindings(bufio.NewWriter(out.w), found, widthOf(out.w))
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

// widthOf returns the cells of a line of the terminal w, and no bound of anything else.
func widthOf(w io.Writer) int {
	if !terminal.Is(w) {
		return math.MaxInt
	}
	return screenSize(w).width
}

// writeFindings writes a row for each finding, and below it the lines that change it. Where a row does not fit, what it
// means has a line of its own.
func writeFindings(w *bufio.Writer, all []doctor.Finding, width int) error {
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
	below := "\n" + strings.Repeat(" ", widths[0]+gap)
	isNarrow := widths[0]+widths[1]+widths[2]+widths[3]+3*gap > width
	for i, row := range rows {
		line := row[0]
		for j, cell := range row[1:] {
			if isNarrow && j+1 == len(row)-1 {
				line += below + cell
			} else {
				line += strings.Repeat(" ", widths[j]-utf8.RuneCountInString(row[j])+gap) + cell
			}
		}
		w.WriteString(line)
		if i > 0 {
			for _, change := range all[i-1].Change {
				w.WriteString(below + "> " + printable(change))
			}
		}
		w.WriteByte('\n')
	}
	return w.Flush()
}
