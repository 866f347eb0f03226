package command

import (
	"context"
	"embed"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"usher/balancer"
	"usher/conntrack"
	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/control"
	"usher/internal/figures"
)

//go:embed completion
var completionScripts embed.FS

// completion prints the script of a shell. Every script asks the program itself, by completeWord.
func (p *program) completion(c *cli.Context) error {
	shell := c.Args().First()
	if have := strings.Split(c.Command.ArgsUsage, "|"); !slices.Contains(have, shell) {
		return usageError{fmt.Errorf("completion: unknown shell %q%s", shell, config.OrHave(shell, have))}
	}
	script, err := completionScripts.ReadFile("completion/usher." + shell)
	if err != nil {
		return err
	}
	_, err = p.stdout.Write(script)
	return err
}

// completeWord is the first word by which the scripts ask for the candidates of the last word.
const completeWord = "__complete"

// filesWanted is the only line of an answer that leaves the word to the shell: it is the path of a file.
const filesWanted = ":files"

// completeTimeout bounds how long a running usher may take to say what it has.
const completeTimeout = time.Second

// candidate is a word that may stand at the end of a command line.
type candidate struct{ word, text string }

// complete prints the candidates for the last word, each on a line with a tab and what it means. Where nothing can be
// known it prints nothing, because a shell is no place for errors.
func complete(ctx context.Context, root *cli.Command, words []string, w io.Writer) error {
	if len(words) == 0 {
		words = []string{""}
	}
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	s := completer{ctx: ctx, root: root, before: words[:len(words)-1], current: words[len(words)-1]}
	for _, c := range s.candidates() {
		line := filesWanted
		if c.word != filesWanted {
			if !strings.HasPrefix(c.word, s.current) {
				continue
			}
			line = printable(c.word) + "\t" + printable(c.text)
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// completer knows what stands before the word that is completed.
type completer struct {
	ctx     context.Context
	root    *cli.Command
	before  []string
	current string

	line  line
	words []string // those before that are no flags, behind the command's name
}

func (s *completer) candidates() []candidate {
	s.line.command = s.root
	s.line.find(s.before, allFlagsOf(s.root))
	known := append(slices.Clone(s.line.command.Flags), helpFlag)
	var open cli.Flag // the flag whose value is completed
	for i := 0; i < len(s.before); i++ {
		if !isDashed(s.before[i]) {
			s.words = append(s.words, s.before[i])
			continue
		}
		name, _, hasValue := cutFlag(s.before[i])
		if f := lookup(known, name); takesWord(f) && !hasValue {
			if i++; i == len(s.before) {
				open = f
			}
		}
	}
	s.words = s.words[min(len(s.line.path), len(s.words)):]
	if open != nil {
		return s.values(open, s.current)
	}
	if strings.HasPrefix(s.current, "-") {
		return s.flags(known)
	}
	return s.arguments()
}

// flags are those of the command, or the values of one that ends in =.
func (s *completer) flags(known []cli.Flag) []candidate {
	if head, value, hasValue := strings.Cut(s.current, "="); hasValue {
		name, _, _ := cutFlag(head)
		if f := lookup(known, name); f != nil {
			return prefixed(head+"=", s.values(f, value))
		}
		return nil
	}
	all := make([]candidate, len(known))
	for i, f := range known {
		_, text := usageOf(f)
		all[i] = candidate{"--" + f.Names()[0], text}
	}
	return all
}

// values are those of a flag, if they can be counted. The value of an option of services may begin with NAME=.
func (s *completer) values(f cli.Flag, current string) []candidate {
	form, _ := usageOf(f)
	form = strings.TrimPrefix(form, " ")
	if name, _, named := strings.Cut(current, "="); named && isTopical(f) {
		return prefixed(name+"=", s.ofForm(form))
	}
	return s.ofForm(form)
}

// arguments are the words that may stand where no flag does.
func (s *completer) arguments() []candidate {
	if len(s.line.command.Subcommands) > 0 {
		if len(s.words) > 0 {
			return nil
		}
		return commandCandidates(s.line.command)
	}
	forms := strings.Fields(s.line.command.ArgsUsage)
	if i := len(s.words); i < len(forms) {
		return s.ofForm(strings.TrimPrefix(forms[i], "["))
	}
	return nil
}

// ofForm are the words of a form, as SERVICE or table|wide|json|yaml.
func (s *completer) ofForm(form string) []candidate {
	form, _, _ = strings.Cut(form, "[")
	switch first, _, _ := strings.Cut(strings.TrimRight(form, "]"), "|"); first {
	case "SERVICE":
		return s.services()
	case "ADDR":
		return s.backends()
	case "CHAIN":
		return s.chains()
	case "INSTANCE":
		return instanceCandidates(s.ctx)
	case "FILE", "PATH":
		return []candidate{{word: filesWanted}}
	case "TOPIC...":
		return topicCandidates(s.root)
	case "ALG":
		return schedulerCandidates()
	case "COLUMN":
		return candidatesOf(control.FlowColumns())
	case "STATE":
		return candidatesOf(conntrack.StateNames())
	case "ACCEPT":
		return candidatesOf(strings.Split(form, "|"))
	}
	if words := strings.Split(form, "|"); len(words) > 1 && strings.ToLower(form) == form {
		return candidatesOf(words)
	}
	return nil
}

func candidatesOf(words []string) []candidate {
	all := make([]candidate, len(words))
	for i, w := range words {
		all[i].word = w
	}
	return all
}

// usher is the client of the running usher that the words before choose, or nil.
func (s *completer) usher() *api.Client {
	value := func(name string) string {
		for i, w := range s.before {
			if v, ok := strings.CutPrefix(w, "--"+name+"="); ok {
				return v
			}
			if w == "--"+name && i+1 < len(s.before) {
				return s.before[i+1]
			}
		}
		return ""
	}
	client, err := api.Find(s.ctx, value("name"), value("control"))
	if err != nil {
		return nil
	}
	return client
}

func (s *completer) running() []api.Service {
	usher := s.usher()
	if usher == nil {
		return nil
	}
	list, err := usher.Services(s.ctx)
	if err != nil {
		return nil
	}
	return list.Services
}

func (s *completer) services() []candidate {
	var all []candidate
	for _, service := range s.running() {
		all = append(all, candidate{service.Name, strings.Join(service.Listen, " ")})
	}
	return all
}

// backends are those of the service that stands before, or of all.
func (s *completer) backends() []candidate {
	var all []candidate
	for _, service := range s.running() {
		if len(s.words) > 0 && service.Name != s.words[0] {
			continue
		}
		for _, b := range service.Backends {
			all = append(all, candidate{b.Address, strings.TrimSpace(b.Status + " " + b.Override)})
		}
	}
	return all
}

func (s *completer) chains() []candidate {
	usher := s.usher()
	if usher == nil {
		return nil
	}
	all, err := usher.Rules(s.ctx)
	if err != nil {
		return nil
	}
	var chains []candidate
	for _, chain := range all.Chains {
		chains = append(chains, candidate{chain.Name, figures.Count(len(chain.Rules), "rule")})
	}
	return chains
}

func instanceCandidates(ctx context.Context) []candidate {
	found, err := api.Instances(ctx)
	if err != nil {
		return nil
	}
	var all []candidate
	for _, i := range found {
		all = append(all, candidate{i.Name, i.Path})
	}
	return all
}

func commandCandidates(c *cli.Command) []candidate {
	var all []candidate
	for _, sub := range c.Subcommands {
		all = append(all, candidate{sub.Name, sub.Usage})
	}
	return all
}

func topicCandidates(root *cli.Command) []candidate {
	all := commandCandidates(root)
	for topic := range topics() {
		all = append(all, candidate{topic, "a topic"})
	}
	sort.Slice(all, func(i, j int) bool { return all[i].word < all[j].word })
	return all
}

func schedulerCandidates() []candidate {
	var all []candidate
	for _, a := range balancer.Algorithms() {
		all = append(all, candidate{a.Name, a.Summary})
	}
	return all
}

// prefixed puts what stands before a value in front of its candidates.
func prefixed(head string, all []candidate) []candidate {
	for i := range all {
		if all[i].word != filesWanted {
			all[i].word = head + all[i].word
		}
	}
	return all
}
