package api

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"

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
