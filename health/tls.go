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
	"syscall"
)

// TLSOptions say how a check speaks TLS. The zero value verifies a target against the
// system's authorities and the host of the request, else of the address, "localhost"
// for a unix socket.
type TLSOptions struct {
	ServerName string // sent (SNI) and verified instead; a name or an IP address
	CAFile     string // PEM certificates to trust instead of the system's
	SkipVerify bool   // accept any certificate
}

// TLS configures TLS 1.2 or later for checks. Make one with [NewTLS]. It is immutable;
// checks may share it.
type TLS struct {
	config tls.Config
}

// maxCAFile is larger than a bundle of all public authorities.
const maxCAFile = 4 << 20

// NewTLS reads the file of authorities once; later changes of the file have no effect.
// The error names the invalid option.
func NewTLS(o TLSOptions) (*TLS, error) {
	s := &TLS{config: tls.Config{ServerName: o.ServerName, InsecureSkipVerify: o.SkipVerify}}
	if err := validateServerName(o.ServerName); err != nil {
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

func validateServerName(name string) error {
	if net.ParseIP(name) != nil {
		return nil
	}
	if strings.Contains(name, ":") {
		return fmt.Errorf("TLS server name %.80q: a name or an address without a port is needed", name)
	}
	if err := validateAuthority(name); err != nil {
		return fmt.Errorf("TLS server name: %w", err)
	}
	return nil
}

// readAuthorities reads all certificates of a file. Unlike
// [x509.CertPool.AppendCertsFromPEM] it fails on invalid ones. O_NONBLOCK keeps the open
// of a fifo from waiting for a writer.
func readAuthorities(path string) (*x509.CertPool, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer f.Close()
	rest, err := io.ReadAll(io.LimitReader(f, maxCAFile+1))
	if err != nil {
		return nil, withoutPath(err)
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

// client returns the client side of TLS on conn.
func (s *TLS) client(conn net.Conn, name string, protocols []string) *tls.Conn {
	config := s.config.Clone()
	if config.ServerName == "" {
		config.ServerName = name
	}
	config.NextProtos = protocols
	return tls.Client(conn, config)
}
