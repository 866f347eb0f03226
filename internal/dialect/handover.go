package dialect

import (
	"errors"
	"fmt"
	"strings"

	"usher/internal/control"
	"usher/internal/iptables"
	"usher/internal/iptables/nat"
	"usher/internal/ipvsadm"
)

// State is all that a Server knows, as plain data: Restore goes on from it in another process image.
type State struct {
	IPVS    []string `cbor:",omitempty"` // lines that make the state of ipvsadm
	Zeros   zeros    `cbor:",omitempty"`
	Tables  string   `cbor:",omitempty"` // as iptables-save -c writes them, without what lives in package control
	Refused []string `cbor:",omitempty"` // services and listeners of iptables that could not be had
}

// State returns what a suspended Server knows.
func (s *Server) State() *State {
	now := s.now.Load()
	var tables strings.Builder
	_ = iptables.Save(&tables, now.plan.tables, iptables.SaveOptions{Counted: true})
	st := &State{Zeros: now.zeros, Tables: tables.String()}
	for line := range now.ipvs.Lines() {
		st.IPVS = append(st.IPVS, line)
	}
	for name := range now.plan.refused {
		st.Refused = append(st.Refused, name)
	}
	return st
}

// Restore returns a Server that goes on from a state; nil is that of a Server of which nothing was asked. c has the
// services and rules already.
func Restore(c *control.Controller, st *State) (*Server, error) {
	s := New(c)
	if st == nil {
		return s, nil
	}
	now, err := st.desired()
	if err != nil {
		return nil, err
	}
	s.now.Store(now)
	return s, nil
}

// Check returns an error if Restore could not go on from the state.
func (st *State) Check() error {
	if st == nil {
		return nil
	}
	_, err := st.desired()
	return err
}

func (st *State) desired() (*desired, error) {
	now := &desired{ipvs: ipvsadm.NewState(), zeros: st.Zeros}
	for _, line := range st.IPVS {
		cmd, err := ipvsadm.Parser{IsRestoring: true}.Parse(strings.Fields(line))
		if err == nil {
			err = cmd.Do(now.ipvs)
		}
		if err != nil {
			return nil, fmt.Errorf("ipvsadm %s: %w", line, err)
		}
	}
	tables := iptables.NewTables()
	if _, err := iptables.Restore(tables, st.Tables, iptables.RestoreOptions{Counted: true}); err != nil {
		return nil, fmt.Errorf("iptables: %w", err)
	}
	refused := make(map[string]bool, len(st.Refused))
	for _, name := range st.Refused {
		refused[name] = true
	}
	var err error
	now.plan, err = planTables(tables, &tablePlan{tables: iptables.NewTables(), nat: &nat.Result{}, refused: refused})
	if err != nil {
		return nil, errors.Join(errors.New("iptables"), err)
	}
	return now, nil
}
