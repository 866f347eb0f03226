package health

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

// TLSOptions say how a check speaks TLS. The zero value verifies a target against the
// system's authorities and the name that the check knows it by: the host of the
// request, else the address; "localhost" for a unix socket.
type TLSOptions struct {
	ServerName string // asked for (SNI) and verified instead; a name or an IP address
	CAFile     string // PEM certificates to trust instead of the system's
	SkipVerify bool   // takes any certificate
}

// TLS is how a check speaks TLS, at least version 1.2. Make one with [NewTLS]. It does
// not change and may be shared by checks.
type TLS struct {
	config tls.Config
}

// maxCAFile is more than the bundles of all public authorities together.
const maxCAFile = 4 << 20

// NewTLS reads the file of authorities, once: a later change of it has no effect. The
// error names what cannot be used.
func NewTLS(o TLSOptions) (*TLS, error) {
	s := &TLS{config: tls.Config{ServerName: o.ServerName, InsecureSkipVerify: o.SkipVerify}}
	if err := checkServerName(o.ServerName); err != nil {
		return nil, err
	}
	if o.CAFile == "" {
		return s, nil
	}
	if o.SkipVerify {
		return nil, fmt.Errorf("CA file %s: verification is off, so it has no effect", o.CAFile)
	}
	roots, err := readAuthorities(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("CA file %s: %w", o.CAFile, err)
	}
	s.config.RootCAs = roots
	return s, nil
}

func checkServerName(name string) error {
	if net.ParseIP(name) != nil {
		return nil
	}
	if strings.Contains(name, ":") {
		return fmt.Errorf("TLS server name %.80q: a name or an address without a port is needed", name)
	}
	if err := checkAuthority(name); err != nil {
		return fmt.Errorf("TLS server name: %w", err)
	}
	return nil
}

// readAuthorities reads every certificate of a file. It is stricter than
// [x509.CertPool.AppendCertsFromPEM], which passes over those that it cannot read.
func readAuthorities(path string) (*x509.CertPool, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unpathed(err)
	}
	defer f.Close()
	rest, err := io.ReadAll(io.LimitReader(f, maxCAFile+1))
	if err != nil {
		return nil, unpathed(err)
	}
	if len(rest) > maxCAFile {
		return nil, fmt.Errorf("larger than %d MiB", maxCAFile>>20)
	}
	roots, n := x509.NewCertPool(), 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		n++
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", n, err)
		}
		roots.AddCert(certificate)
	}
	if n == 0 {
		return nil, errors.New("no certificate in PEM form")
	}
	return roots, nil
}

// unpathed takes the path out of an error whose caller names it.
func unpathed(err error) error {
	var failed *os.PathError
	if errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

// client is the client side of TLS on conn.
func (s *TLS) client(conn net.Conn, name string, protocols []string) *tls.Conn {
	config := s.config.Clone()
	if config.ServerName == "" {
		config.ServerName = name
	}
	config.NextProtos = protocols
	return tls.Client(conn, config)
}
