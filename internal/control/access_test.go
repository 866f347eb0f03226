package control

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"usher/internal/config"
	"usher/internal/discovery"
	"usher/proxy"
	"usher/proxy/flow"
)

// TestAccessReachesTheDataPath: every option about who may come in does.
func TestAccessReachesTheDataPath(t *testing.T) {
	t.Parallel()
	a := config.Access{
		Allow: config.Prefixes{netip.MustParsePrefix("10.0.0.0/8")}, Deny: config.Prefixes{netip.MustParsePrefix("::/0")},
		DropDenied:     true,
		MaxClientConns: config.ClientLimit{Most: 3, Bits4: 24, Bits6: 64},
		ClientRate:     config.ClientRate{Bits4: 25, Bits6: 65},
		AcceptProxy:    config.Prefixes{netip.MustParsePrefix("127.0.0.1/32")}, ProxyOnly: true,
		HeaderTimeout: time.Second, HelloTimeout: 2 * time.Second,
	}
	a.ClientRate.Rate.Events, a.ClientRate.Rate.Per, a.ClientRate.Rate.Burst = 1, time.Minute, 2
	a.Rate.Events, a.Rate.Per, a.Rate.Burst = 4, time.Second, 5
	got := accessConfig(&a)
	want := flow.AccessConfig{
		Allow: a.Allow, Deny: a.Deny, DropDenied: true,
		MaxClientConns: 3, ConnsBits: flow.ClientBits{IPv4: 24, IPv6: 64},
		ClientRate: a.ClientRate.Rate, RateBits: flow.ClientBits{IPv4: 25, IPv6: 65}, Rate: a.Rate,
		AcceptProxy: a.AcceptProxy, ProxyOnly: true, HeaderTimeout: time.Second, HelloTimeout: 2 * time.Second,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for of, v := range map[string]reflect.Value{"config": reflect.ValueOf(a), "flow": reflect.ValueOf(got)} {
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("%s.%s is not tested", of, v.Type().Field(i).Name)
			}
		}
	}
}

// TestDefaultsOfAccess: the plan has the defaults of the data path.
func TestDefaultsOfAccess(t *testing.T) {
	t.Parallel()
	p, a := config.DefaultProcess(), config.NewService("", config.TCP).Access
	if p.MaxDropped != proxy.DefaultMaxDropped || p.DropTimeout != proxy.DefaultDropTimeout ||
		a.HeaderTimeout != flow.DefaultHeaderTimeout || a.HelloTimeout != flow.DefaultHelloTimeout {
		t.Errorf("%+v, %+v", p, a)
	}
}

// TestOwnersShareAnAddress by server names. What they must agree on, the error says, and whose the other service is.
func TestOwnersShareAnAddress(t *testing.T) {
	t.Parallel()
	c, ctx := newController(t, discovery.Resolver{}), t.Context()
	must(t, c.Replace(ctx, File, Part{Services: named("web", services(t, "0,sni=web.test=9001"))}))
	web, err := c.Service("web")
	must(t, err)
	at := strings.TrimSuffix(web.Listen[0], ",sni=web.test")
	if at == web.Listen[0] {
		t.Fatalf("web listens on %s", at)
	}
	other := func(name string) *config.Service { return named("api", services(t, at+name+"=9002"))[0] }
	must(t, c.Add(ctx, API, other(",sni=*.test")))
	must(t, c.Remove(ctx, API, "api"))
	must(t, c.Add(ctx, API, other("")))
	var conflict *ConflictError
	err = c.Update(ctx, API, "api", func(s *config.Service) error { return s.Set("accept-proxy", "::1") })
	want := fmt.Sprintf(`services "web" and "api" share %s and must have the same accept-proxy and accept-proxy-only (service web is of the file usher.yaml)`, at)
	if !errors.As(err, &conflict) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	err = c.Update(ctx, API, "api", func(s *config.Service) error { s.Listeners = other(",sni=web.test").Listeners; return nil })
	if !errors.As(err, &conflict) || !strings.Contains(err.Error(), `both listen on `+web.Listen[0]) {
		t.Errorf("%v", err)
	}
	must(t, c.Replace(ctx, File, Part{}))
	if got := listing(c); got != "api:api:127.0.0.1:9002" {
		t.Errorf("runs %s", got)
	}
}
