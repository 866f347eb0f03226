package migrate

import (
	"errors"
	"fmt"
	"strings"

	"usher/internal/config"
)

// builder makes a plan of drafts. A draft that package config refuses loses what is wrong with it, with a note.
type builder struct {
	ledger
	process config.Process
	rules   []*word // in iptables' words
	policy  string
	drafts  []*draft
	names   map[string]int                            // how many names were made of each
	reason  func(*statement) (text string, lost bool) // of a statement that no reader met; "" if it does not matter
}

func newBuilder() *builder {
	return &builder{
		ledger: ledger{said: make(map[Note]bool)}, process: config.DefaultProcess(), names: make(map[string]int),
		reason: func(*statement) (string, bool) { return unknownDirective, true },
	}
}

const unknownDirective = "usher import does not know it"

// draft is a service that is not checked yet.
type draft struct {
	name      string
	from      *statement
	network   string
	listeners []word
	backends  []word
	options   []option
	made      *config.Service // in place of the rest; nil: there is none
}

// word is a word of a plan with the statement that it is from.
type word struct {
	text string
	from *statement
}

type option struct {
	name config.Field
	word
}

// newDraft begins a service under a name that is like the one that is wished, and no other's.
func (b *builder) newDraft(name, network string, from *statement) *draft {
	d := &draft{name: b.freeName(name), from: from, network: network}
	b.drafts = append(b.drafts, d)
	return d
}

// ready adds a service that another package has made.
func (b *builder) ready(s *config.Service, from *statement) {
	b.names[s.Name]++
	b.drafts = append(b.drafts, &draft{name: s.Name, from: from, made: s})
}

// freeName makes a name valid, and different from those before.
func (b *builder) freeName(wish string) string {
	name := strings.TrimLeft(strings.Map(func(r rune) rune {
		if strings.ContainsRune(config.NameLetters, r) {
			return r
		}
		return '-'
	}, wish), "-_.")
	const most = 200 // below the bound of config, with room for a number
	if len(name) > most {
		name = name[:most]
	}
	if name == "" {
		name = "service"
	}
	base := name
	for b.names[name] > 0 {
		b.names[base]++
		name = fmt.Sprintf("%s-%d", base, b.names[base])
	}
	b.names[name]++
	return name
}

func (d *draft) listen(text string, from *statement) {
	d.listeners = append(d.listeners, word{text, from})
}

func (d *draft) backend(text string, from *statement) {
	d.backends = append(d.backends, word{text, from})
}

// set sets an option. The last value counts.
func (d *draft) set(name config.Field, value string, from *statement) {
	d.options = append(d.options, option{name, word{value, from}})
	if from != nil {
		from.done()
	}
}

// service makes the service of a draft; nil: there is none.
func (b *builder) service(d *draft) *config.Service {
	if d.made != nil {
		s, err := d.made.Clone().Completed()
		if err != nil {
			b.lose(d.from, "", "service %s is left out: %s", d.name, reasonOf(err))
			return nil
		}
		return s
	}
	s := config.NewService(d.name, d.network)
	b.addListeners(s, d)
	b.addBackends(s, d)
	switch {
	case len(s.Listeners) == 0:
		b.lose(d.from, "", "service %s has no address left to listen on: it is left out", d.name)
		return nil
	case s.IsEmpty():
		b.lose(d.from, "", "service %s has no backend left: it is left out", d.name)
		return nil
	}
	for _, o := range d.options {
		if err := s.Set(o.name, o.text); err != nil {
			b.refused(d, o.word, err)
		}
	}
	for range len(d.options) + 1 {
		err := s.Complete()
		if err == nil {
			return s
		}
		if !b.withdraw(s, d, err) {
			b.lose(d.from, "", "service %s is left out: %v", d.name, err)
			return nil
		}
	}
	b.lose(d.from, "", "service %s is left out: its options contradict each other", d.name)
	return nil
}

func (b *builder) addListeners(s *config.Service, d *draft) {
	seen := make(map[config.Addr]bool)
	for _, w := range d.listeners {
		a, err := config.ParseListener(w.text)
		switch {
		case err != nil:
			b.refused(d, w, err)
		case seen[a]:
			b.tell(w.from, d.name, "%s is there twice", a)
		default:
			if err := s.AddListener(a); err != nil {
				b.refused(d, w, err)
				continue
			}
			seen[a] = true
			w.from.done()
		}
	}
}

func (b *builder) addBackends(s *config.Service, d *draft) {
	seen := make(map[config.Addr]bool)
	for _, w := range d.backends {
		backend, err := config.ParseBackend(w.text, d.network)
		switch {
		case err != nil:
			b.refused(d, w, err)
		case seen[backend.Addr]:
			b.lose(w.from, d.name, "%s is a backend of the service already: raise its weight there", backend.Addr)
		default:
			if err := s.AddBackend(backend); err != nil {
				b.refused(d, w, err)
				continue
			}
			seen[backend.Addr] = true
			w.from.done()
		}
	}
}

// refused notes a word that package config has refused.
func (b *builder) refused(d *draft, w word, err error) {
	if w.from == nil { // a default of the other program
		return
	}
	b.lose(w.from, d.name, "%s", reasonOf(err))
}

// reasonOf is the text of an error of package config for a reader of the statement.
func reasonOf(err error) string {
	if e, ok := errors.AsType[*config.Error](err); ok {
		return e.Reason(func(f config.Field) string { return string(f) })
	}
	return err.Error()
}

// withdraw takes an option back that an error is about. It returns false if there is none.
func (b *builder) withdraw(s *config.Service, d *draft, err error) bool {
	e, ok := errors.AsType[*config.Error](err)
	if !ok {
		return false
	}
	defaults := s.Defaults()
	is := s.Text(e.Field)
	if is == "" || is == defaults.Text(e.Field) {
		return false
	}
	for i := len(d.options) - 1; i >= 0; i-- {
		if d.options[i].name == e.Field {
			b.refused(d, d.options[i].word, err)
			break
		}
	}
	return s.Set(e.Field, defaults.Text(e.Field)) == nil
}

// result makes the plan, and the notes of all that is not in it.
func (b *builder) result(kind Kind) (*Result, error) {
	plan := &config.Config{Process: b.process}
	from := make(map[string]*draft)
	for _, d := range b.drafts {
		if s := b.service(d); s != nil {
			plan.Services = append(plan.Services, s)
			from[s.Name] = d
		}
	}
	if config.NewChecker(nil).Check(plan.Services) != nil {
		plan.Services = b.separate(plan.Services, from)
	}
	plan.Rules = b.list()
	if err := b.complete(plan, from); err != nil {
		return nil, err
	}
	b.loseRest(b.reason)
	lines := 0
	for _, s := range b.statements {
		lines += s.last - s.line + 1
	}
	return &Result{Kind: kind, Plan: plan, Notes: b.sorted(), lines: lines}, nil
}

// separate leaves listeners out that take the clients of another one.
func (b *builder) separate(services []*config.Service, from map[string]*draft) []*config.Service {
	gone := make(map[string]map[string]bool)
	for _, c := range config.Clashes(services, func(int, int) bool { return false }) {
		s := services[c.Service]
		d, at := from[s.Name], s.Listeners[c.Listener]
		b.lose(d.listenerFrom(at), s.Name, "%s: %s", at, reasonOf(c.Err))
		if gone[s.Name] == nil {
			gone[s.Name] = make(map[string]bool)
		}
		gone[s.Name][at.String()] = true
	}
	var kept []*config.Service
	for _, s := range services {
		var listeners []config.Addr
		for _, l := range s.Listeners {
			if !gone[s.Name][l.String()] {
				listeners = append(listeners, l)
			}
		}
		if s.Listeners = listeners; len(listeners) > 0 {
			kept = append(kept, s)
		}
	}
	return kept
}

// listenerFrom returns the statement that a listener is from.
func (d *draft) listenerFrom(at config.Addr) *statement {
	for _, w := range d.listeners {
		if a, err := config.ParseListener(w.text); err == nil && a == at {
			return w.from
		}
	}
	return d.from
}

// list makes the rules, without those that are refused.
func (b *builder) list() *config.Rules {
	for {
		lines := make([]string, len(b.rules))
		for i, w := range b.rules {
			lines[i] = w.text
		}
		rules, err := config.ParseRules(b.policy, lines)
		if err == nil {
			return rules
		}
		b.lose(b.rules[0].from, "", "no rule is brought over: %v", err)
		b.rules = nil
	}
}

// complete checks the whole plan, and leaves services out that cannot be with the others.
func (b *builder) complete(plan *config.Config, from map[string]*draft) error {
	const most = 100 // tries: each checks the whole plan
	for range most {
		err := plan.Complete()
		e, ok := errors.AsType[*config.Error](err)
		if err == nil || !ok || from[e.Service] == nil {
			return err
		}
		b.lose(from[e.Service].from, "", "service %s is left out: %s", e.Service, reasonOf(err))
		kept := plan.Services[:0]
		for _, s := range plan.Services {
			if s.Name != e.Service {
				kept = append(kept, s)
			}
		}
		plan.Services = kept
		delete(from, e.Service)
	}
	return fmt.Errorf("more than %d services cannot be together", most)
}
