package admin

import (
	"cmp"
	"errors"
	"net/http"
	"slices"

	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/control"
	"usher/internal/iptables"
)

// listRules answers with all rules, whose text may be some megabytes.
func (h *Handler) listRules(w http.ResponseWriter, _ *request) error {
	w.Header().Set("Content-Type", "application/json")
	out := newLines(w)
	_ = out.write(h.control.Rules())
	_ = out.flush() // or the reader is gone
	return nil
}

// setRules makes the lines of the body all rules of the API.
func (h *Handler) setRules(w http.ResponseWriter, r *request) error {
	body, err := ruleLines(r)
	if err != nil {
		return err
	}
	return h.updateRules(w, r, func(*config.Rules) (*config.Rules, error) { return parseRules(body.Policy, nil, body.Rules) })
}

// addRules adds the lines of the body. A policy takes the place of the API's.
func (h *Handler) addRules(w http.ResponseWriter, r *request) error {
	body, err := ruleLines(r)
	if err != nil {
		return err
	}
	return h.updateRules(w, r, func(have *config.Rules) (*config.Rules, error) {
		if have == nil {
			have = new(config.Rules)
		}
		return parseRules(cmp.Or(body.Policy, have.Policy), have.Lines, body.Rules)
	})
}

// parseRules reads lines behind those that the API has. An error has the number of the line, from 1.
func parseRules(policy string, have, lines []string) (*config.Rules, error) {
	r, err := config.ParseRules(policy, slices.Concat(have, lines))
	if e, ok := errors.AsType[*iptables.Error](err); ok && e.Line >= len(have) {
		at := e.Line - len(have)
		return nil, badRequest("rule %d, %.200s: %v", at+1, lines[at], e)
	}
	return r, err
}

// ruleLines reads the body of a change of rules. An empty list is one, no list is a mistake.
func ruleLines(r *request) (body api.RuleLines, err error) {
	if err = decodeStrictly(r.body, &body); err == nil && body.Rules == nil && body.Policy == "" {
		err = badRequest("a change of rules has rules, a policy, or both (DELETE removes all)")
	}
	return body, err
}

func (h *Handler) removeRules(w http.ResponseWriter, r *request) error {
	return h.updateRules(w, r, func(*config.Rules) (*config.Rules, error) { return nil, nil })
}

func (h *Handler) updateRules(w http.ResponseWriter, r *request, edit func(*config.Rules) (*config.Rules, error)) error {
	if err := h.control.UpdateRules(r.Context(), control.API, edit); err != nil {
		return refused(err)
	}
	return done(w)
}
