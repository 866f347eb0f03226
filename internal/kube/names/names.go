// Package names serves the names of Services over DNS.
package names

import _ "github.com/miekg/dns"
