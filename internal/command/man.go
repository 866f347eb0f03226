package command

import (
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"usher/internal/config"
	"usher/internal/roff"
	"usher/internal/version"
)

// man prints the manual page: what the help says of the commands, the flags and the topics, in one text.
func (p *program) man(*cli.Context) error {
	info := version.Get()
	_, err := io.WriteString(p.stdout, manual(p.root, info.Version, manDate(info)))
	return err
}

// manDate is the date of the page: the one that a packager asks for, else that of the build's commit, else today.
func manDate(info version.Info) time.Time {
	if seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
		return time.Unix(seconds, 0).UTC()
	}
	if date, ok := info.Date(); ok {
		return date
	}
	return time.Now()
}

// manual is the source of usher(1).
func manual(root *cli.Command, of string, date time.Time) string {
	page := roff.New("usher", 1, date, "usher "+of, "User Commands")
	page.Section("Name")
	page.Paragraph("usher - layer-4 load balancer for TCP and UDP in one binary that runs as you")
	page.Section("Synopsis")
	page.Literal(linesBetween(rootHead, "Usage\n", "\n\n"))
	page.Section("Description")
	page.Text(manDescription)
	writeFlags(page, root)
	writeCommands(page, root)
	page.Section("Topics")
	for _, name := range manTopics() {
		page.Subsection(name)
		page.Text(topics()[name])
	}
	for _, s := range manSections() {
		page.Section(s.title)
		page.Text(s.text)
	}
	return page.String()
}

// writeFlags writes the flags of usher itself: those that the pages of topics leave to the first page, and where the
// others are.
func writeFlags(page *roff.Page, root *cli.Command) {
	page.Section("Options")
	page.Text(manOptions)
	topical := make(map[string][]string) // flags by the topic that explains them
	name := func(f config.Field) string { return "--" + string(f) }
	for _, o := range config.ServiceOptions() {
		topical[o.Topic] = append(topical[o.Topic], name(o.Name))
	}
	for _, o := range config.ProcessOptions() {
		topical[o.Topic] = append(topical[o.Topic], name(o.Name))
	}
	for _, f := range append(slices.Clone(root.Flags), helpFlag) {
		form, text := usageOf(f)
		switch long := f.Names()[0]; {
		case long == "version":
			text = "prints the version in one line (usher version prints more)"
		case long == "help":
			text = "explains a command, or lists all of them"
		case !slices.Contains(topical[""], "--"+long) && !slices.Contains([]string{"listen", "backend", "config", "rule", "policy"}, long):
			continue
		case long == "listen", long == "backend":
			form = " [NAME=]ADDR"
		}
		page.Item(optionWord(f, form), text)
	}
	for _, topic := range manTopics() {
		if len(topical[topic]) > 0 {
			page.Item("usher help "+topic, strings.Join(topical[topic], ", "))
		}
	}
}

// writeCommands writes the commands by their groups. Flags of several commands stand at the beginning.
func writeCommands(page *roff.Page, root *cli.Command) {
	page.Section("Commands")
	shared := sharedFlags(root)
	page.Text(manCommands)
	for _, f := range shared {
		writeFlag(page, f)
	}
	seen := make(map[string]bool) // descriptions that several commands have
	var walk func(name string, c *cli.Command)
	walk = func(name string, c *cli.Command) {
		page.Subsection(strings.TrimSpace(name + " " + c.ArgsUsage))
		page.Paragraph(strings.ToUpper(c.Usage[:1]) + c.Usage[1:] + ".")
		if !seen[c.Description] {
			page.Text(c.Description)
		}
		seen[c.Description] = true
		var names []string
		for _, f := range c.Flags {
			switch {
			case isTopical(f):
			case isShared(shared, f):
				names = append(names, "--"+f.Names()[0])
			default:
				writeFlag(page, f)
			}
		}
		if len(names) > 0 {
			page.Paragraph("Also: " + strings.Join(names, ", ") + ".")
		}
		for _, sub := range c.Subcommands {
			walk(name+" "+sub.Name, sub)
		}
	}
	for _, c := range root.Subcommands {
		walk("usher "+c.Name, c)
	}
}

func writeFlag(page *roff.Page, f cli.Flag) {
	form, text := usageOf(f)
	page.Item(optionWord(f, form), text)
}

// optionWord is a flag with its short form and the form of its value.
func optionWord(f cli.Flag, form string) string {
	word := "--" + f.Names()[0] + form
	for _, short := range f.Names()[1:] {
		word = "-" + short + ", " + word
	}
	return word
}

// sharedFlags are the flags that several commands have with the same meaning.
func sharedFlags(root *cli.Command) (shared []cli.Flag) {
	var seen []cli.Flag
	for _, f := range allFlagsOf(root) {
		if isTopical(f) || isShared(shared, f) {
			continue
		}
		if isShared(seen, f) {
			shared = append(shared, f)
		}
		seen = append(seen, f)
	}
	return shared
}

func isShared(shared []cli.Flag, f cli.Flag) bool {
	form, text := usageOf(f)
	return slices.ContainsFunc(shared, func(other cli.Flag) bool {
		otherForm, otherText := usageOf(other)
		return other.Names()[0] == f.Names()[0] && otherForm == form && otherText == text
	})
}

// linesBetween returns the lines of a text that stand between two marks.
func linesBetween(text, before, behind string) []string {
	_, text, _ = strings.Cut(text, before)
	text, _, _ = strings.Cut(text, behind)
	return strings.Split(strings.Trim(text, "\n"), "\n")
}

// section is a part of the manual page that no page of the help has.
type section struct{ title, text string }

// manTopics are the topics in the order of the manual page: those about services first, and the rest by name.
func manTopics() []string {
	first := []string{"listeners", "backends", "schedulers", "health", "udp", "access", "iptables", "proxy", "sni"}
	return append(first, slices.DeleteFunc(slices.Sorted(maps.Keys(topics())), func(topic string) bool {
		return slices.Contains(first, topic)
	})...)
}
