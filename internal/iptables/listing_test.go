package iptables

import (
	"strings"
	"testing"

	"usher/proxy/rules"
)

// TestListing has listings of the real iptables, with names for protocols.
func TestListing(t *testing.T) {
	t.Parallel()
	list, err := Build([]string{
		"-N web", "-N averylongchainname",
		"-A INPUT -s 10.0.0.0/8 -d 10.1.0.0/16 -i lo -p tcp --sport 1024: --dport 80 -j REJECT --reject-with tcp-reset",
		"-A INPUT ! -s 192.168.0.0/16 -p tcp ! --dport 22 -j RETURN",
		"-A INPUT -p udp -j averylongchainname",
	})
	if err != nil {
		t.Fatal(err)
	}
	listing := Chain{Name: rules.Input, IsBuiltin: true, Policy: "DROP", Packets: 123456, Bytes: 7}
	counters := [][2]uint64{{123456, 99999999}, {99999, 100000}, {99999999999, 9999499999999999}}
	for i, r := range list.Chains[0].Rules {
		row := ruleOf(r)
		row.Packets, row.Bytes = counters[i][0], counters[i][1]
		listing.Rules = append(listing.Rules, row)
	}
	for _, tt := range []struct {
		options ListingOptions
		chain   Chain
		want    string
	}{
		{ListingOptions{Verbose: true, LineNumbers: true}, listing, `
Chain INPUT (policy DROP 123K packets, 7 bytes)
num   pkts bytes target     prot opt in     out     source               destination         
1     123K  100M REJECT     tcp  --  lo     *       10.0.0.0/8           10.1.0.0/16          tcp spts:1024:65535 dpt:80 reject-with tcp-reset
2    99999  100K RETURN     tcp  --  *      *      !192.168.0.0/16       0.0.0.0/0            tcp dpt:!22
3     100G 10000T averylongchainname  udp  --  *      *       0.0.0.0/0            0.0.0.0/0           
`},
		{ListingOptions{Verbose: true, LineNumbers: true, Exact: true}, listing, `
Chain INPUT (policy DROP 123456 packets, 7 bytes)
num      pkts      bytes target     prot opt in     out     source               destination         
1      123456 99999999 REJECT     tcp  --  lo     *       10.0.0.0/8           10.1.0.0/16          tcp spts:1024:65535 dpt:80 reject-with tcp-reset
2       99999   100000 RETURN     tcp  --  *      *      !192.168.0.0/16       0.0.0.0/0            tcp dpt:!22
3    99999999999 9999499999999999 averylongchainname  udp  --  *      *       0.0.0.0/0            0.0.0.0/0           
`},
		{ListingOptions{LineNumbers: true}, listing, `
Chain INPUT (policy DROP)
num  target     prot opt source               destination         
1    REJECT     tcp  --  10.0.0.0/8           10.1.0.0/16          tcp spts:1024:65535 dpt:80 reject-with tcp-reset
2    RETURN     tcp  -- !192.168.0.0/16       0.0.0.0/0            tcp dpt:!22
3    averylongchainname  udp  --  0.0.0.0/0            0.0.0.0/0           
`},
		{ListingOptions{}, Chain{Name: "web", References: 2}, `
Chain web (2 references)
target     prot opt source               destination         
`},
		{ListingOptions{Verbose: true}, Chain{Name: "web"}, `
Chain web (0 references)
 pkts bytes target     prot opt in     out     source               destination         
`},
	} {
		var got strings.Builder
		tt.options.Numeric, tt.options.ProtocolNames = true, true
		if err := tt.chain.Write(&got, tt.options); err != nil || got.String() != tt.want[1:] {
			t.Errorf("%+v: %v\ngot\n%s\nwant\n%s", tt.options, err, got.String(), tt.want[1:])
		}
	}
}

// TestCount covers the rounding of counters, as the real iptables rounds.
func TestCount(t *testing.T) {
	t.Parallel()
	for n, want := range map[uint64]string{
		0: "    0", 99999: "99999", 100000: " 100K", 123456: " 123K", 123500: " 124K", 9999499: "9999K", 9999500: "  10M",
		99999999: " 100M", 9999498999: "9999M", 9999499999: "  10G", 9999500000: "  10G", 9999500000000: "  10T",
	} {
		if got := new(ListingOptions).count(n, 8); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
