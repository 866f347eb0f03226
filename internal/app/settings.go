package app

import (
	"slices"

	"go.uber.org/zap"

	"usher/internal/config"
	"usher/internal/configfile"
	"usher/internal/control"
)

// settings are the config file as it was last read, and the options of the process.
type settings struct {
	file    *configfile.File // nil: there is none
	process config.Process
}

// settings reads the file, if there is one. Options of the command line stand above those of the file.
func (b *Start) settings() (s settings, err error) {
	if b.File != "" {
		if s.file, err = configfile.Load(b.File, nil); err != nil {
			return s, err
		}
	}
	s.process, err = b.process(s.file)
	return s, inFile(s.file, err)
}

// process merges the options of the process.
func (b *Start) process(file *configfile.File) (config.Process, error) {
	p := config.DefaultProcess()
	var options []configfile.Option
	if file != nil {
		options = file.Options
	}
	for _, o := range slices.Concat(options, b.Options) {
		if err := p.Set(o.Name, o.Value); err != nil {
			return p, err
		}
	}
	return p, p.Check()
}

// Plan returns what a run would begin with, checked as a whole, but neither resolved nor bound.
func (b *Start) Plan() (*config.Config, error) {
	s, err := b.settings()
	if err != nil {
		return nil, err
	}
	plan := &config.Config{Process: s.process, Services: b.Services}
	rules := map[control.Owner]*config.Rules{control.Flags: b.Rules}
	if s.file != nil {
		plan.Services = slices.Concat(s.file.Services, b.Services)
		rules[control.File] = s.file.Rules
	}
	if plan.Rules, err = control.JoinRules(rules, b.File); err != nil {
		return nil, inFile(s.file, err)
	}
	if err := plan.Complete(); err != nil {
		return nil, inFile(s.file, err)
	}
	return plan, nil
}

// withDrain returns the process's options with the drain timeout that they mean, on a terminal or elsewhere.
func (s *settings) withDrain(terminal bool) config.Process {
	p := s.process
	p.DrainTimeout = p.Drain(terminal)
	return p
}

// adopt takes over what can change while usher runs, and logs what cannot.
func (r *running) adopt(next settings) {
	before := r.settings.process
	r.settings.file = next.file
	for _, f := range before.Diff(&next.process) {
		switch f {
		case "drain-timeout":
			r.settings.process.DrainTimeout = next.process.DrainTimeout
		case "log-level":
			r.settings.process.LogLevel = next.process.LogLevel
			r.log.setLevel(next.process.LogLevel)
			r.control.Server().SetTrace(r.log.Core().Enabled(zap.DebugLevel))
		default:
			r.log.Warn(string(f) + " cannot change while usher runs: restart it")
			continue
		}
		r.log.Info("option changed", zap.String(string(f), next.process.Text(f)))
	}
	r.control.SetProcess(r.settings.withDrain(r.terminal))
}
