package ipvsadm_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"usher/internal/ipvsadm"
)

// lines makes a state of command lines that the kernel accepts.
func lines(t testing.TB, all ...string) *ipvsadm.State {
	t.Helper()
	s := ipvsadm.NewState()
	for _, line := range all {
		c, err := ipvsadm.Parse(strings.Fields(line))
		if err == nil {
			err = c.Do(s)
		}
		if err != nil {
			t.Fatal(line, err)
		}
	}
	return s
}

// golden is what the listings of the reference show.
func golden(t testing.TB) *ipvsadm.View {
	s := lines(t,
		"-A -f 7 -s mh -p 3600 -M 255.255.255.0 -b mh-port,mh-fallback", "-a -f 7 -r 10.244.3.30:8080 -i",
		"-A -u 10.96.0.10:53 -s rr -o", "-a -u 10.96.0.10:53 -r 10.244.2.30 -m",
		"-A -t 10.96.0.1:443 -s rr", "-a -t 10.96.0.1:443 -r 10.244.0.28:6443 -m -w 3",
		"-A -t 1.2.3.4:8080 -s sh -b sh-fallback", "-a -t 1.2.3.4:8080 -r 10.244.4.30:8080",
		"-A -t 192.168.100.200:80 -p 300",
		"-a -t 192.168.100.200:80 -r 10.244.1.30:8080 -m",
		"-a -t 192.168.100.200:80 -r 10.244.1.29:8080 -m -w 2 -x 1000 -y 800")
	v := &ipvsadm.View{Timeouts: s.Timeouts}
	for _, from := range s.Services() {
		to := ipvsadm.ServiceView{
			Protocol: from.Protocol, Addr: from.Addr, Mark: from.Mark, Scheduler: from.Scheduler, Flags: from.Flags,
			OnePacket: from.OnePacket, Persist: from.Persist, Bits: from.Bits,
		}
		for i, d := range from.Destinations {
			d := ipvsadm.DestinationView{
				Addr: d.Addr, Method: d.Method, Weight: d.Weight, Upper: d.Upper, Lower: d.Lower, Active: 1, Inactive: 100,
			}
			switch d.Addr.String() {
			case "10.244.1.29:8080":
				d.Method, d.Active, d.Inactive, d.Persistent = ipvsadm.Route, 6, 101, 1
			case "10.244.1.30:8080":
				d.Method = ipvsadm.Route
			case "10.244.4.30:8080":
				d.Method = ipvsadm.Local
			case "10.244.0.28:6443":
				d.Active, d.Inactive = 11, 102
				d.Stats = ipvsadm.Stats{Conns: 1002, InPkts: 20000, OutPkts: 30000, InBytes: 4000000, OutBytes: 5000000}
				d.Rates = ipvsadm.Rates{CPS: 123456789, InPPS: 2, OutPPS: 3, InBPS: 123456789012, OutBPS: 5}
				to.Stats = ipvsadm.Stats{
					Conns: 123456789, InPkts: 222222222, OutPkts: 99999999, InBytes: 123456789012, OutBytes: 1234567890123456,
				}
				to.Rates = ipvsadm.Rates{CPS: 123456789, InPPS: 2, OutPPS: 3, InBPS: 23456789012, OutBPS: 5}
			}
			to.Destinations = slices.Insert(to.Destinations, i, d)
		}
		v.Services = append(v.Services, to)
	}
	return v
}

const local = "Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"

// TestListings checks listings byte for byte against what the real program prints.
func TestListings(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ args, want string }{
		{"-Ln", `IP Virtual Server version 1.2.1 (size=4096)
` + local + `TCP  192.168.100.200:80 wlc persistent 300
  -> 10.244.1.29:8080             Route   2      6          101       
  -> 10.244.1.30:8080             Route   1      1          100       
TCP  1.2.3.4:8080 sh (sh-fallback)
  -> 10.244.4.30:8080             Local   1      1          100       
TCP  10.96.0.1:443 rr
  -> 10.244.0.28:6443             Masq    3      11         102       
UDP  10.96.0.10:53 rr ops
  -> 10.244.2.30:53               Masq    1      1          100       
FWM  7 mh (mh-fallback,mh-port) persistent 3600 mask 255.255.255.0
  -> 10.244.3.30:8080             Tunnel  1      1          100       
`},
		{"-Ln -t 192.168.100.200:80 --nosort", local + `TCP  192.168.100.200:80 wlc persistent 300
  -> 10.244.1.29:8080             Route   2      6          101       
  -> 10.244.1.30:8080             Route   1      1          100       
`},
		{"-Ln --stats -t 10.96.0.1:443", `Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  10.96.0.1:443                 123456K  222222K 99999999     123G    1234T
  -> 10.244.0.28:6443                 1002    20000    30000  4000000  5000000
`},
		{"-Ln --stats --exact -t 10.96.0.1:443", `Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  10.96.0.1:443                123456789 222222222 99999999 123456789012 1234567890123456
  -> 10.244.0.28:6443                 1002    20000    30000  4000000  5000000
`},
		{"-Ln --rate -t 10.96.0.1:443", `Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS
  -> RemoteAddress:Port
TCP  10.96.0.1:443                 123456K        2        3   23456M        5
  -> 10.244.0.28:6443             123456789        2        3     123G        5
`},
		{"-Ln --thresholds -t 192.168.100.200:80", `Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn 
  -> RemoteAddress:Port
TCP  192.168.100.200:80 wlc persistent 300
  -> 10.244.1.29:8080             1000       800        6          101       
  -> 10.244.1.30:8080             0          0          1          100       
`},
		{"-Ln --persistent-conn -t 192.168.100.200:80", `Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn 
  -> RemoteAddress:Port
TCP  192.168.100.200:80 wlc persistent 300
  -> 10.244.1.29:8080             2         1           6          101       
  -> 10.244.1.30:8080             1         0           1          100       
`},
		{"-Ln --tun-info -f 7", `Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn
FWM  7 mh (mh-fallback,mh-port) persistent 3600 mask 255.255.255.0
  -> 10.244.3.30:8080             Tunnel  ipip          1      1          100       
`},
		{"-L -u 10.96.0.10:domain", local + `UDP  dns.example:domain rr ops
  -> 10.244.2.30:domain           Masq    1      1          100       
`},
		{"-L --timeout", "Timeout (tcp tcpfin udp): 900 120 300\n"},
		{"-L --daemon", ""},
	} {
		named := ipvsadm.Parser{Port: func(string, ipvsadm.Protocol) (uint16, bool) { return 53, true }}
		c, err := named.Parse(strings.Fields(test.args))
		if err != nil {
			t.Fatal(test.args, err)
		}
		var out strings.Builder
		err = c.Print(&out, golden(t), ipvsadm.Names{
			Host: func(a netip.Addr) string { return map[string]string{"10.96.0.10": "dns.example"}[a.String()] },
			Port: func(uint16, ipvsadm.Protocol) string { return "domain" },
		})
		if err != nil || out.String() != test.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", test.args, err, &out, test.want)
		}
	}
}

func TestListingOfNoService(t *testing.T) {
	t.Parallel()
	c, _ := ipvsadm.Parse([]string{"-Ln", "-t", "9.9.9.9:9"})
	var out strings.Builder
	err := c.Print(&out, golden(t), ipvsadm.Names{})
	if e, is := errors.AsType[*ipvsadm.Error](err); !is || e.Status != 1 || e.Text != "No such service" || out.String() != "" {
		t.Error(err, out.String())
	}
}

func connections() []ipvsadm.Connection {
	a := netip.MustParseAddrPort
	return []ipvsadm.Connection{
		{Protocol: ipvsadm.TCP, Expires: 898, State: "ESTABLISHED", Client: a("10.0.0.1:54321"), Virtual: a("10.96.0.1:443"), Destination: a("10.244.0.1:6443")},
		{Protocol: ipvsadm.TCP, Expires: 7261, State: "NONE", Client: a("192.168.1.1:0"), Virtual: a("192.168.100.200:80"), Destination: a("10.244.1.30:8080")},
		{Protocol: ipvsadm.UDP, Expires: 299, State: "UDP", Client: a("10.0.0.2:40000"), Virtual: a("10.96.0.10:53"), Destination: a("10.244.2.30:53")},
		{Expires: 3599, State: "ASSURED", Client: a("192.168.1.0:0"), Virtual: a("0.0.0.7:0"), Destination: a("10.244.3.30:0")},
		{Protocol: ipvsadm.TCP, Expires: 59, State: "FIN_WAIT", Client: a("[2001:db8::1]:1"), Virtual: a("[2001:db8::2]:80"), Destination: a("10.0.0.1:80"), Engine: "sip", EngineData: "x"},
	}
}

func TestConnections(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	f := ipvsadm.Format{Numeric: true}
	if err := f.PrintConnections(&out, slices.Values(connections()), ipvsadm.Names{}); err != nil {
		t.Fatal(err)
	}
	if want := `IPVS connection entries
pro expire state       source             virtual            destination
TCP 14:58  ESTABLISHED 10.0.0.1:54321     10.96.0.1:443      10.244.0.1:6443
TCP 121:01 NONE        192.168.1.1:0      192.168.100.200:80 10.244.1.30:8080
UDP 04:59  UDP         10.0.0.2:40000     10.96.0.10:53      10.244.2.30:53
IP  59:59  ASSURED     192.168.1.0:0      0.0.0.7:0          10.244.3.30:0
TCP 00:59  FIN_WAIT    [2001:db8::1]:1    [2001:db8::2]:80   10.0.0.1:80
`; out.String() != want {
		t.Errorf("%s\nwant\n%s", &out, want)
	}
	out.Reset()
	f.PersistentConn = true
	if err := f.PrintConnections(&out, slices.Values(connections()[4:]), ipvsadm.Names{}); err != nil {
		t.Fatal(err)
	}
	if want := `IPVS connection entries
pro expire state       source             virtual            destination        pe name          pe_data
TCP 00:59  FIN_WAIT    [2001:db8::1]:1    [2001:db8::2]:80   10.0.0.1:80      sip                x
`; out.String() != want {
		t.Errorf("%s\nwant\n%s", &out, want)
	}
}

// TestProc checks the files for exporters against the formats in the kernel's sources.
func TestProc(t *testing.T) {
	t.Parallel()
	v := golden(t)
	six := netip.MustParseAddrPort("[2001:db8::1]:80")
	v.Services = append(v.Services, ipvsadm.ServiceView{
		Protocol: ipvsadm.TCP, Addr: six, Scheduler: "rr", Persist: 4, Bits: 64,
		Destinations: []ipvsadm.DestinationView{{Addr: six, Weight: 1}},
	})
	var services, conns, stats strings.Builder
	if err := errors.Join(ipvsadm.WriteProcServices(&services, v), ipvsadm.WriteProcStats(&stats, v),
		ipvsadm.WriteProcConnections(&conns, slices.Values(connections()))); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ got, want string }{
		{services.String(), `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
FWM  00000007 mh persistent 900000 FFFFFF00
  -> 0AF4031E:1F90      Tunnel  1      1          100       
UDP  0A60000A:0035 rr ops  
  -> 0AF4021E:0035      Masq    1      1          100       
TCP  0A600001:01BB rr  
  -> 0AF4001C:192B      Masq    3      11         102       
TCP  01020304:1F90 sh  
  -> 0AF4041E:1F90      Local   1      1          100       
TCP  C0A864C8:0050 wlc  persistent 75000 FFFFFFFF
  -> 0AF4011D:1F90      Route   2      6          101       
  -> 0AF4011E:1F90      Route   1      1          100       
TCP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0050 rr persistent 1000 40000000
  -> [2001:0db8:0000:0000:0000:0000:0000:0001]:0050      Masq    1      0          0         
`},
		{conns.String(), `Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP 0A000001 D431 0A600001 01BB 0AF40001 192B ESTABLISHED     898
TCP C0A80101 0000 C0A864C8 0050 0AF4011E 1F90 NONE           7261
UDP 0A000002 9C40 0A60000A 0035 0AF4021E 0035 UDP             299
IP  C0A80100 0000 00000007 0000 0AF4031E 0000 ASSURED        3599
TCP 2001:0db8:0000:0000:0000:0000:0000:0001 0001 2001:0db8:0000:0000:0000:0000:0000:0002 0050 0A000001 0050 FIN_WAIT         59 sip x
`},
		{stats.String(), `   Total Incoming Outgoing         Incoming         Outgoing
   Conns  Packets  Packets            Bytes            Bytes
 75BCD15  D3ED78E  5F5E0FF       1CBE991A14    462D53C8ABAC0

 Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s
 75BCD15        2        3        576223214                5
`},
	} {
		if test.got != test.want {
			t.Errorf("%s\nwant\n%s", test.got, test.want)
		}
	}
}
