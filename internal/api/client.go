package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Bounds of a client. A change may wait for name servers, so that an answer may take a while.
const (
	maxAnswer     = 64 << 20 // bytes of an answer that is kept whole
	maxErrorText  = 64 << 10 // bytes of a refusal
	answerTimeout = 2 * time.Minute
)

// Client asks one running usher, over its control socket. It is safe for concurrent use. Each request has a connection
// of its own, so that there is nothing to close.
type Client struct {
	path string
	http http.Client
}

// StatusError is a refusal by the running usher. Its text is the server's.
type StatusError struct {
	Status int // of HTTP
	Text   string
}

func (e *StatusError) Error() string { return e.Text }

// NewClient returns a client of the socket at path. It does not connect yet.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return &Client{path: path, http: http.Client{
		Transport: &http.Transport{
			DialContext:           dial,
			DisableKeepAlives:     true,
			DisableCompression:    true,
			ResponseHeaderTimeout: answerTimeout,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Path returns the path of the control socket.
func (c *Client) Path() string { return c.path }

// Services returns all services.
func (c *Client) Services(ctx context.Context) (s Services, err error) {
	return s, c.get(ctx, "/v1/services", &s)
}

// Overview returns all services without their backends.
func (c *Client) Overview(ctx context.Context) (s Services, err error) {
	return s, c.get(ctx, "/v1/services?backends=false", &s)
}

// Service returns one service, as the only one of the list.
func (c *Client) Service(ctx context.Context, name string) (s Services, err error) {
	return s, c.get(ctx, servicePath(name), &s)
}

// AddService adds a service. The body is its mapping in a configuration file, with its name.
func (c *Client) AddService(ctx context.Context, service []byte) error {
	return c.change(ctx, http.MethodPost, "/v1/services", service)
}

// SetService changes what a mapping of options names, and leaves the rest.
func (c *Client) SetService(ctx context.Context, name string, options []byte) error {
	return c.change(ctx, http.MethodPatch, servicePath(name), options)
}

// RemoveService removes a service.
func (c *Client) RemoveService(ctx context.Context, name string) error {
	return c.change(ctx, http.MethodDelete, servicePath(name), nil)
}

// AddBackend adds a backend to a service. The body is its word or its mapping in a configuration file.
func (c *Client) AddBackend(ctx context.Context, service string, backend []byte) error {
	return c.change(ctx, http.MethodPost, servicePath(service)+"/backends", backend)
}

// SetBackend changes what a mapping of options of a backend names, and leaves the rest.
func (c *Client) SetBackend(ctx context.Context, service, address string, options []byte) error {
	return c.change(ctx, http.MethodPatch, backendPath(service, address), options)
}

// RemoveBackend removes a backend.
func (c *Client) RemoveBackend(ctx context.Context, service, address string) error {
	return c.change(ctx, http.MethodDelete, backendPath(service, address), nil)
}

// SetOverride sets what an operator wants of a backend, whichever source owns its service.
func (c *Client) SetOverride(ctx context.Context, service, address string, o Override) error {
	return c.send(ctx, http.MethodPut, backendPath(service, address)+"/override", o)
}

// Resume takes the overrides of a backend back.
func (c *Client) Resume(ctx context.Context, service, address string) error {
	return c.change(ctx, http.MethodDelete, backendPath(service, address)+"/override", nil)
}

// Rules returns the rules of all owners, with their counters.
func (c *Client) Rules(ctx context.Context) (r Rules, err error) {
	return r, c.get(ctx, "/v1/rules", &r)
}

// SetRules makes these lines all rules of the API.
func (c *Client) SetRules(ctx context.Context, r RuleLines) error {
	return c.send(ctx, http.MethodPut, "/v1/rules", r)
}

// AddRules adds lines behind the rules of the API.
func (c *Client) AddRules(ctx context.Context, r RuleLines) error {
	return c.send(ctx, http.MethodPost, "/v1/rules", r)
}

// RemoveRules removes all rules of the API, and its policy.
func (c *Client) RemoveRules(ctx context.Context) error {
	return c.change(ctx, http.MethodDelete, "/v1/rules", nil)
}

// Flows returns the flows that a query lets through, as they arrive. The last pair has the error, if there is one.
func (c *Client) Flows(ctx context.Context, query url.Values) iter.Seq2[Flow, error] {
	return func(yield func(Flow, error) bool) {
		answer, err := c.do(ctx, http.MethodGet, withQuery("/v1/flows", query), nil)
		if err != nil {
			yield(Flow{}, err)
			return
		}
		rows[Flow](c, answer)(yield)
	}
}

// Kill ends the flows that a query lets through.
func (c *Client) Kill(ctx context.Context, query url.Values) (k Killed, err error) {
	return k, c.ask(ctx, http.MethodDelete, withQuery("/v1/flows", query), nil, &k)
}

// Rebalance ends the flows that backends of a service have beyond their fair share, and returns how far it is, step by step.
// It ends with ctx, or when the caller has seen enough. The last pair has the error, if there is one.
func (c *Client) Rebalance(ctx context.Context, service string, r Rebalance) (iter.Seq2[Rebalanced, error], error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	answer, err := c.do(ctx, http.MethodPost, servicePath(service)+"/rebalance", body)
	if err != nil {
		return nil, err
	}
	return rows[Rebalanced](c, answer), nil
}

// Events returns changes as they happen, all from its return on, until ctx ends or the usher stops. The last pair has the
// error, if there is one. The connection stays until then, or until the caller has seen enough.
func (c *Client) Events(ctx context.Context) (iter.Seq2[Event, error], error) {
	answer, err := c.do(ctx, http.MethodGet, "/v1/events", nil)
	if err != nil {
		return nil, err
	}
	return rows[Event](c, answer), nil
}

// FlowEvents returns what happens to the flows that a query lets through, all from its return on; see Events.
func (c *Client) FlowEvents(ctx context.Context, query url.Values) (iter.Seq2[FlowEvent, error], error) {
	answer, err := c.do(ctx, http.MethodGet, withQuery("/v1/flows/events", query), nil)
	if err != nil {
		return nil, err
	}
	return rows[FlowEvent](c, answer), nil
}

// Config returns the effective plan as YAML.
func (c *Client) Config(ctx context.Context) ([]byte, error) {
	answer, err := c.do(ctx, http.MethodGet, "/v1/config", nil)
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	return io.ReadAll(io.LimitReader(answer, maxAnswer))
}

// Reload has the configuration file read anew.
func (c *Client) Reload(ctx context.Context) error {
	return c.change(ctx, http.MethodPost, "/v1/reload", nil)
}

// Stop ends the usher: at once if now is set, else when its flows have ended or the drain timeout has passed. It
// returns before the end.
func (c *Client) Stop(ctx context.Context, now bool) error {
	return c.send(ctx, http.MethodPost, "/v1/stop", Stop{Now: now})
}

// Upgrade has the usher replace itself with a binary; "" is what now stands at the path of the running one. The process
// and its flows stay. The connection of the request does not outlive the old image, so the new one is asked afterwards.
func (c *Client) Upgrade(ctx context.Context, binary string) error {
	before, err := c.Process(ctx)
	if err != nil {
		return err
	}
	err = c.send(ctx, http.MethodPost, "/v1/upgrade", Upgrade{Binary: binary})
	if refused := new(StatusError); errors.As(err, &refused) || ctx.Err() != nil {
		return err
	}
	after, err := c.Process(ctx)
	switch {
	case err != nil:
		return err
	case after.PID != before.PID:
		return fmt.Errorf("another usher, PID %d, has taken the place of PID %d", after.PID, before.PID)
	case after.Upgrades > before.Upgrades:
		return nil
	case after.UpgradeError != "":
		return fmt.Errorf("the new binary could not go on, and the old one did: %s", after.UpgradeError)
	}
	return errors.New("the usher has not been upgraded, and does not say why: its log may")
}

// Ready asks whether clients should come, and with the name of a service whether that has a backend in use. Nil: they
// should.
func (c *Client) Ready(ctx context.Context, service string) error {
	query := make(url.Values)
	if service != "" {
		query.Set("service", service)
	}
	return c.change(ctx, http.MethodGet, withQuery("/readyz", query), nil)
}

// Process returns what runs.
func (c *Client) Process(ctx context.Context) (p Process, err error) {
	return p, c.get(ctx, "/v1/process", &p)
}

func servicePath(name string) string { return "/v1/services/" + url.PathEscape(name) }

func backendPath(service, address string) string {
	return servicePath(service) + "/backends/" + url.PathEscape(address)
}

func withQuery(path string, query url.Values) string {
	if len(query) == 0 {
		return path
	}
	return path + "?" + query.Encode()
}

// get decodes the answer to a GET into v.
func (c *Client) get(ctx context.Context, path string, v any) error {
	return c.ask(ctx, http.MethodGet, path, nil, v)
}

// send is change with a JSON object.
func (c *Client) send(ctx context.Context, method, path string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return c.change(ctx, method, path, text)
}

// change asks for what has no answer but success.
func (c *Client) change(ctx context.Context, method, path string, body []byte) error {
	answer, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	return answer.Close()
}

// ask decodes the answer into v.
func (c *Client) ask(ctx context.Context, method, path string, body []byte, v any) error {
	answer, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer answer.Close()
	if err := json.NewDecoder(io.LimitReader(answer, maxAnswer)).Decode(v); err != nil {
		return fmt.Errorf("the answer of usher at %s: %w", c.path, err)
	}
	return nil
}

// rows decodes a stream of JSON objects, one by one, and closes it.
func rows[T any](c *Client, answer io.ReadCloser) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		defer answer.Close()
		for d := json.NewDecoder(answer); ; {
			var row T
			switch err := d.Decode(&row); {
			case errors.Is(err, io.EOF):
				return
			case err != nil:
				yield(row, fmt.Errorf("the answer of usher at %s: %w", c.path, err))
				return
			}
			if !yield(row, nil) {
				return
			}
		}
	}
}

// do sends a request and returns the body of a success. The error is a *StatusError if the usher refused.
func (c *Client) do(ctx context.Context, method, path string, body []byte) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://usher"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(request)
	if err != nil {
		if cause := new(url.Error); errors.As(err, &cause) {
			err = cause.Err // the URL says nothing to a user
		}
		return nil, fmt.Errorf("ask usher at %s: %w", c.path, err)
	}
	if answer.StatusCode < 300 {
		return answer.Body, nil
	}
	defer answer.Body.Close()
	return nil, refusal(answer)
}

// refusal reads the reason out of an answer.
func refusal(answer *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxErrorText))
	if err != nil {
		return err
	}
	var e Error
	if json.Unmarshal(text, &e) != nil || e.Error == "" {
		e.Error = fmt.Sprintf("usher answered %s: %.200q", answer.Status, strings.TrimSpace(string(text)))
	}
	return &StatusError{Status: answer.StatusCode, Text: e.Error}
}
