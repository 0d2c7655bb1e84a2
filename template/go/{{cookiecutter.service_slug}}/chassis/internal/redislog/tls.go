package redislog

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
)

// setting is what the URL is called where it can be changed.
const setting = "FACTFOLD_REDIS_URL"

// dial connects, with TLS if the URL says so. Each time the files are read anew: renewed ones need
// no restart.
func dial(ctx context.Context, at string, its URL) (net.Conn, error) {
	dialer := net.Dialer{Timeout: connectTimeout}
	if its.unix {
		return dialer.DialContext(ctx, "unix", at)
	}
	if !its.tls {
		return dialer.DialContext(ctx, "tcp", at)
	}
	config, err := its.tlsConfig()
	if err != nil {
		return nil, err
	}
	if config.ServerName, _, err = net.SplitHostPort(at); err != nil {
		return nil, err
	}
	return (&tls.Dialer{NetDialer: &dialer, Config: config}).DialContext(ctx, "tcp", at)
}

// TLSProblem is why a connection cannot even be tried; empty if it can.
func (u URL) TLSProblem() string {
	known := []string{optionCA, optionCert, optionKey, optionVerify, optionHostname}
	for name := range u.options {
		if !strings.HasPrefix(name, "ssl_") {
			continue
		}
		if !u.tls {
			return name + " is for rediss://, which is TLS"
		}
		if !slices.Contains(known, name) {
			return fmt.Sprintf("%s is no option; those for files are %s, %s and %s",
				name, optionCA, optionCert, optionKey)
		}
	}
	if !u.tls {
		return ""
	}
	if _, err := u.tlsConfig(); err != nil {
		return err.Error()
	}
	return ""
}

func (u URL) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if file, given := u.options[optionCA]; given {
		pem, err := readFile(optionCA, file)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s=%s must hold certificates in PEM", optionCA, file)
		}
	}
	if err := u.verify(config); err != nil {
		return nil, err
	}
	certFile, keyFile := u.options[optionCert], u.options[optionKey]
	if certFile == "" {
		if keyFile != "" {
			return nil, fmt.Errorf("%s needs %s beside it", optionKey, optionCert)
		}
		return config, nil
	}
	cert, err := readFile(optionCert, certFile)
	if err != nil {
		return nil, err
	}
	key, also := cert, ""
	if keyFile != "" {
		if key, err = readFile(optionKey, keyFile); err != nil {
			return nil, err
		}
		also = fmt.Sprintf(" and %s=%s", optionKey, keyFile)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		if strings.Contains(err.Error(), "private key does not match") {
			return nil, fmt.Errorf("%s=%s must hold the key of the certificate in %s",
				optionKey, keyFile, optionCert)
		}
		return nil, fmt.Errorf("%s=%s%s must hold a certificate and its key in PEM",
			optionCert, certFile, also)
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

// verify takes what the URL says of how the server's certificate is looked at.
func (u URL) verify(config *tls.Config) error {
	switch verify := u.options[optionVerify]; verify {
	case "", "required":
	case "none":
		config.InsecureSkipVerify = true
	default:
		return fmt.Errorf("%s is required or none, not %s", optionVerify, verify)
	}
	switch check := strings.ToLower(u.options[optionHostname]); check {
	case "", "true", "1", "yes":
		return nil
	case "false", "0", "no":
	default:
		return fmt.Errorf("%s is true or false, not %s", optionHostname, check)
	}
	if config.InsecureSkipVerify {
		return nil
	}
	// Go checks the chain and the name as one, so here the chain is checked alone.
	config.InsecureSkipVerify = true
	config.VerifyConnection = func(state tls.ConnectionState) error {
		options := x509.VerifyOptions{Roots: config.RootCAs, Intermediates: x509.NewCertPool()}
		for _, certificate := range state.PeerCertificates[1:] {
			options.Intermediates.AddCert(certificate)
		}
		_, err := state.PeerCertificates[0].Verify(options)
		return err
	}
	return nil
}

func readFile(option, name string) ([]byte, error) {
	data, err := os.ReadFile(name)
	if path := (*os.PathError)(nil); errors.As(err, &path) {
		return nil, fmt.Errorf("%s=%s cannot be read: %w", option, name, path.Err)
	}
	return data, err
}

// tlsReason is why connecting has failed, if it has to do with TLS; else empty.
func (u URL) tlsReason(err error) string {
	reset := errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF)
	if !u.tls {
		if reset || strings.Contains(err.Error(), "connection reset") {
			return "the server ended the connection at once; if that port is one for TLS, write " +
				"rediss:// in " + setting
		}
		return ""
	}
	var (
		record    tls.RecordHeaderError
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		alert     tls.AlertError
	)
	switch {
	case errors.As(err, &record):
		return "that port speaks no TLS; write redis:// in " + setting
	case errors.As(err, &name):
		return fmt.Sprintf("%s; use a name that it is for in %s, or give the server another one",
			name.Error(), setting)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the server's certificate has expired or is not yet valid; renew it, or set this " +
			"machine's clock right"
	case errors.As(err, &authority):
		if file, given := u.options[optionCA]; given {
			return fmt.Sprintf("no authority in %s has signed the server's certificate; name the "+
				"file of the one that has with %s in %s", file, optionCA, setting)
		}
		return fmt.Sprintf("no authority that this machine trusts has signed the server's "+
			"certificate; name the file of the one that has: ?%s=FILE in %s", optionCA, setting)
	case isTimeout(err):
		return "nothing there answers TLS; if that port is one without it, redis:// in " + setting
	case reset || errors.As(err, &alert) || strings.Contains(err.Error(), "remote error: tls"):
		if u.options[optionCert] == "" {
			return fmt.Sprintf("the server ended the TLS connection; if it asks clients for "+
				"certificates, add %s and %s to %s", optionCert, optionKey, setting)
		}
		return fmt.Sprintf("the server refused the certificate of %s in %s, or ended the "+
			"connection; must not an authority that it trusts have signed it?", optionCert, setting)
	}
	// They may be gone since the URL was looked at.
	if why := u.TLSProblem(); why != "" {
		return why + ", in " + setting
	}
	return ""
}
