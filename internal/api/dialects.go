package api

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"

	"usher/internal/ipvsadm"
)

// Lines is the body of POST /v1/ipvs.
type Lines struct {
	Lines []string `json:"lines"` // of ipvsadm -R
}

// LineErrors is the answer to POST /v1/ipvs.
type LineErrors struct {
	Errors []LineError `json:"errors,omitempty"` // of the lines that have changed nothing
}

// LineError says why a line was refused.
type LineError struct {
	Line   int    `json:"line"` // its place, from 0
	Status int    `json:"status"`
	Errno  int    `json:"errno,omitempty"` // of the kernel, which it answers a command with; 0: of usher
	Text   string `json:"text"`
}

// IPVS returns what ipvsadm lists.
func (c *Client) IPVS(ctx context.Context) (v ipvsadm.View, err error) {
	return v, c.get(ctx, "/v1/ipvs", &v)
}

// IPVSService returns what ipvsadm lists of one service; of one that is not there, nothing.
func (c *Client) IPVSService(ctx context.Context, key ipvsadm.Key) (v ipvsadm.View, err error) {
	query := url.Values{"service": {key.String()}}
	return v, c.get(ctx, "/v1/ipvs?"+query.Encode(), &v)
}

// IPVSLines returns the lines that ipvsadm -S prints.
func (c *Client) IPVSLines(ctx context.Context) ([]string, error) {
	var l Lines
	err := c.get(ctx, "/v1/ipvs/lines", &l)
	return l.Lines, err
}

// IPVSConnections returns the connection table as ipvsadm lists it, as it arrives. The last pair has the error, if there
// is one.
func (c *Client) IPVSConnections(ctx context.Context) iter.Seq2[ipvsadm.Connection, error] {
	return func(yield func(ipvsadm.Connection, error) bool) {
		answer, err := c.do(ctx, http.MethodGet, "/v1/ipvs/connections", nil)
		if err != nil {
			yield(ipvsadm.Connection{}, err)
			return
		}
		rows[ipvsadm.Connection](c, answer)(yield)
	}
}

// ChangeIPVS runs lines one after the other, as one change, and goes on behind one that is refused.
func (c *Client) ChangeIPVS(ctx context.Context, lines []string) ([]LineError, error) {
	body, err := json.Marshal(Lines{lines})
	if err != nil {
		return nil, err
	}
	var e LineErrors
	err = c.ask(ctx, http.MethodPost, "/v1/ipvs", body, &e)
	return e.Errors, err
}

// Tables is the answer to GET /v1/iptables.
type Tables struct {
	Text   string   `json:"text"`             // as iptables-save -c writes it
	Others []string `json:"others,omitempty"` // other owners that have rules
}

// TableChange is the body of POST /v1/iptables: a command, or a text to restore.
type TableChange struct {
	Program string   `json:"program,omitempty"` // as messages name it
	Args    []string `json:"args,omitempty"`    // of iptables

	Restore  bool   `json:"restore,omitempty"`
	Text     string `json:"text,omitempty"` // that iptables-restore reads
	Table    string `json:"table,omitempty"`
	Counters bool   `json:"counters,omitempty"`
	NoFlush  bool   `json:"noflush,omitempty"`
	Test     bool   `json:"test,omitempty"`
	Verbose  bool   `json:"verbose,omitempty"`
	Strict   bool   `json:"strict,omitempty"` // refuses all where usher cannot do a line
}

// TableResult is the answer to POST /v1/iptables: what the program prints, and its exit status.
type TableResult struct {
	Status int    `json:"status"`
	Stdout string `json:"stdout,omitempty"`
	Stderr string `json:"stderr,omitempty"`
}

// Tables returns the tables of iptables, with their counters.
func (c *Client) Tables(ctx context.Context) (t Tables, err error) {
	return t, c.get(ctx, "/v1/iptables", &t)
}

// ChangeTables runs a command of iptables, or restores tables.
func (c *Client) ChangeTables(ctx context.Context, change TableChange) (r TableResult, err error) {
	body, err := json.Marshal(change)
	if err != nil {
		return r, err
	}
	return r, c.ask(ctx, http.MethodPost, "/v1/iptables", body, &r)
}
