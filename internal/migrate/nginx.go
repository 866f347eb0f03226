package migrate

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// nginx is what is above the servers of a stream.
type nginx struct {
	b         *builder
	files     map[string][]*block // of a text that nginx -T has printed, by their paths
	main      string              // the path of the first file
	isOpen    map[string]bool     // files that are being read
	included  int                 // directives, with those that are included
	upstreams map[string]*block
	maps      map[string]*block // map and geo, by the variable that they set
	zones     map[string]*block // limit_conn_zone, by name
}

// maxIncluded bounds how many directives there are with those of included files, since files that include others twice
// double them.
const maxIncluded = 1 << 20

// readNginx makes services of the servers of a stream.
func readNginx(b *builder, text string) error {
	blocks, err := parseNginx(&b.ledger, text)
	if err != nil {
		return err
	}
	n := &nginx{b: b, isOpen: make(map[string]bool), upstreams: make(map[string]*block), maps: make(map[string]*block), zones: make(map[string]*block)}
	b.reason = nginxRest
	n.splitFiles(text, blocks)
	if n.files != nil {
		blocks = n.files[n.main]
	}
	if blocks = n.include(blocks, 0); n.included > maxIncluded {
		return fmt.Errorf("there are more than %d directives with those of included files", maxIncluded)
	}
	if isStream(blocks) { // a part of a configuration
		n.readStream(blocks)
		return nil
	}
	for _, at := range blocks {
		n.readTop(at)
	}
	return nil
}

// fileMark begins the line that nginx -T prints above each file.
const fileMark = "# configuration file "

// splitFiles finds the files of a text that nginx -T has printed.
func (n *nginx) splitFiles(text string, blocks []*block) {
	number, i, name := 0, 0, ""
	take := func(until int) {
		for ; i < len(blocks) && blocks[i].line < until; i++ {
			n.files[name] = append(n.files[name], blocks[i])
		}
	}
	for line := range strings.Lines(text) {
		number++
		file, ok := strings.CutPrefix(strings.TrimSpace(line), fileMark)
		if !ok {
			continue
		}
		if n.files == nil {
			n.files = make(map[string][]*block)
			n.main = strings.TrimSuffix(file, ":")
			name = n.main // with what stands above
		}
		take(number)
		name = strings.TrimSuffix(file, ":")
	}
	if n.files != nil {
		take(number + 1)
	}
}

// include puts the directives of files in the place of each include. A file that is being read is not included again, as
// nginx refuses it.
func (n *nginx) include(blocks []*block, depth int) []*block {
	var out []*block
	for _, at := range blocks {
		if n.included++; n.included > maxIncluded || depth > maxDepth {
			break
		}
		if at.words[0] != "include" || n.files == nil {
			out = append(out, &block{at.statement, n.include(at.body, depth+1)})
			continue
		}
		for _, f := range n.matching(at.has(1)) {
			if n.isOpen[f] {
				continue
			}
			at.done()
			n.isOpen[f] = true
			out = append(out, n.include(n.files[f], depth+1)...)
			n.isOpen[f] = false
		}
	}
	return out
}

// matching returns the files that a pattern names, in their order.
func (n *nginx) matching(pattern string) (found []string) {
	if !path.IsAbs(pattern) {
		pattern = path.Join(path.Dir(n.main), pattern)
	}
	for name := range n.files {
		if ok, err := path.Match(pattern, name); ok && err == nil && name != n.main {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

// isStream reports whether directives are of a stream by themselves.
func isStream(blocks []*block) bool {
	if len(find(blocks, "stream"))+len(find(blocks, "http")) > 0 {
		return false
	}
	for _, server := range find(blocks, "server") {
		pass := find(server.body, "proxy_pass")
		if len(find(server.body, "location")) > 0 || len(pass) > 0 && strings.Contains(pass[0].has(1), "://") {
			return false
		}
	}
	return len(find(blocks, "server"))+len(find(blocks, "upstream")) > 0
}

// readTop reads a directive outside of stream.
func (n *nginx) readTop(at *block) {
	switch name := at.words[0]; name {
	case "stream":
		at.done()
		n.readStream(at.body)
	case "events":
		at.done()
		for _, inner := range at.body {
			if inner.words[0] == "worker_connections" {
				n.b.tell(inner.statement, "", "usher takes as many flows as its limit of descriptors allows (max-conns bounds them)")
			}
		}
	case "worker_processes":
		if at.has(1) != "auto" {
			if err := n.b.process.Set("workers", at.has(1)); err != nil {
				n.b.lose(at.statement, "", "%s", reasonOf(err))
			}
		}
		at.done()
	case "http", "mail", "server", "upstream":
		for _, s := range at.all() {
			n.b.lose(s, "", "usher passes bytes and does not read requests: keep nginx for them behind usher (send-proxy passes the "+
				"client's address on)")
		}
	}
}

// nginxRest says what of a directive is lost, or works in another way, that no server has read.
func nginxRest(s *statement) (reason string, lost bool) {
	name := s.words[0]
	switch {
	case nginxHarmless[name], strings.HasSuffix(name, "_hash_max_size"), strings.HasSuffix(name, "_hash_bucket_size"):
		return "", false
	case nginxRemarks[name] != "":
		return nginxRemarks[name], false
	case nginxReasons[name] != "":
		return nginxReasons[name], true
	case strings.HasPrefix(name, "ssl_"), strings.HasPrefix(name, "proxy_ssl"):
		return "usher encrypts and decrypts nothing: TLS passes through", true
	case strings.HasPrefix(name, "js_"):
		return "usher runs no scripts", true
	case strings.HasPrefix(name, "geoip"):
		return "usher knows no places: list the prefixes (allow, deny, from=)", true
	case strings.HasPrefix(name, "proxy_"), strings.HasPrefix(name, "preread_"), name == "limit_conn", name == "allow", name == "deny":
		if nginxDone[name] {
			return "no server uses it", false
		}
	case name == "upstream", name == "map", name == "geo", name == "limit_conn_zone":
		return "no server that is brought over uses it", false
	}
	return unknownDirective, true
}

// nginxDone are the directives that servers inherit from the stream.
var nginxDone = setOf("proxy_timeout", "proxy_connect_timeout", "proxy_protocol", "proxy_responses", "proxy_requests", "proxy_bind",
	"preread_timeout", "allow", "deny", "limit_conn", "access_log", "set_real_ip_from", "proxy_ssl", "ssl_preread", "proxy_next_upstream",
	"proxy_next_upstream_timeout", "proxy_pass", "proxy_next_upstream_tries")

// nginxHarmless are directives that have nothing to say to usher.
var nginxHarmless = setOf("pid", "lock_file", "daemon", "master_process", "worker_rlimit_nofile", "worker_rlimit_core", "worker_priority",
	"working_directory", "timer_resolution", "pcre_jit", "load_module", "proxy_buffer_size", "proxy_socket_keepalive", "proxy_half_close", "tcp_nodelay",
	"preread_buffer_size", "resolver_timeout", "zone", "limit_conn_log_level", "limit_conn_dry_run", "open_log_file_cache", "worker_shutdown_timeout",
	"ssl_engine", "thread_pool", "debug_points", "debug_connection", "env", "volatile", "hostnames", "accept_mutex", "multi_accept", "use",
	"proxy_upload_buffer", "least_conn", "state", "keepalive", "status_zone")

// nginxRemarks say how usher does what a directive says.
var nginxRemarks = map[string]string{
	"user":                "usher needs no root and stays who starts it (User= of a unit of systemd)",
	"error_log":           "usher logs to stderr (log-level)",
	"log_format":          "the access log has fields of its own (usher help access)",
	"worker_cpu_affinity": "usher does not bind its threads to CPUs (taskset does)",
	"resolver":            "usher asks the name servers of /etc/resolv.conf, and looks names up again when their TTL ends",
}

// nginxReasons say why usher lacks what a directive says, and what comes nearest.
var nginxReasons = map[string]string{
	"include":             "usher import reads one text: nginx -T | usher import - reads all files",
	"return":              "usher answers nothing by itself",
	"proxy_download_rate": "usher bounds no rate of bytes; rate: N/s bounds new flows",
	"proxy_upload_rate":   "usher bounds no rate of bytes; rate: N/s bounds new flows",
	"split_clients":       "the scheduler shares clients out: weights of backends in one service (ADDR@WEIGHT) are their shares",
	"set":                 "usher.yaml has no variables",
	"health_check":        "health: tcp,interval=5s checks backends (usher help health)",
	"match":               "what a check sends and expects stands in health: tcp:send=TEXT,expect=TEXT",
	"sticky":              "persist: 1h keeps clients at their backends by their addresses",
	"server_name":         "sni=NAME behind an address gives a server name a service of its own",
	"keyval":              "usher.yaml has no variables",
	"keyval_zone":         "usher.yaml has no variables",
	"zone_sync":           "ushers share no state",
	"limit_conn_status":   "it is for http",
	"ntlm":                "it is for http",
	"queue":               "queue: 50,5s lets clients wait while all backends have their max",
	"random":              "scheduler: twos",
	"real_ip_header":      "it is for http",
}
