package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/settings"
)

const (
	certFile = "FACTFOLD_TLS_CERT_FILE"
	keyFile  = "FACTFOLD_TLS_KEY_FILE"
	caFile   = "FACTFOLD_TLS_CA_FILE"
)

// Files are those of mutual TLS: the certificate, its key and the authorities, read anew when they
// change. The service shows the certificate to its callers and to the services that it calls, and
// trusts the authorities in either direction.
type Files struct {
	cert, key, ca string
	alarm         func(string)

	mu    sync.Mutex
	stamp []os.FileInfo
	pems  *pems
	told  bool
}

// pems is what the files hold.
type pems struct {
	certificate tls.Certificate
	authorities *x509.CertPool
	until       time.Time
}

// FilesOf are those that the settings name; nil if they name none. alarm is told in one line what an
// operator must know.
func FilesOf(settings settings.Settings, alarm func(string)) (*Files, error) {
	f := &Files{cert: settings.TLSCertFile, key: settings.TLSKeyFile, ca: settings.TLSCAFile, alarm: alarm}
	var missing []string
	for _, each := range [][2]string{{certFile, f.cert}, {keyFile, f.key}, {caFile, f.ca}} {
		if each[1] == "" {
			missing = append(missing, each[0])
		}
	}
	switch len(missing) {
	case 3:
		return nil, nil
	case 1, 2:
		return nil, fault.CannotStart("%s must be set too: TLS needs %s, %s and %s",
			strings.Join(missing, " and "), certFile, keyFile, caFile)
	}
	f.stamp = f.look()
	var err error
	if f.pems, err = f.read(); err != nil {
		return nil, err
	}
	f.say("mutual TLS")
	return f, nil
}

// newest is what the files hold, or held while they could last be used.
func (f *Files) newest() *pems {
	f.mu.Lock()
	defer f.mu.Unlock()
	if stamp := f.look(); !slices.EqualFunc(stamp, f.stamp, unchanged) {
		// One look at each change: files replaced one after the other fit with the last one.
		f.stamp = stamp
		if found, err := f.read(); err != nil {
			f.alarm("the former TLS files stay in use: " + err.Error())
		} else {
			f.pems, f.told = found, false
			f.say("new TLS files")
		}
	}
	if !f.told && time.Now().After(f.pems.until) {
		f.told = true
		f.alarm("the certificate in FACTFOLD_TLS_CERT_FILE has expired: renew " + f.cert)
	}
	return f.pems
}

// forServer makes callers show a certificate; each connection is made with the newest files.
func (f *Files) forServer() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			newest := f.newest()
			return &tls.Config{
				MinVersion:   tls.VersionTLS12,
				Certificates: []tls.Certificate{newest.certificate},
				ClientAuth:   tls.RequireAndVerifyClientCert,
				ClientCAs:    newest.authorities,
				NextProtos:   []string{"h2"},
			}, nil
		},
	}
}

// ForClient is for calls to other services; a channel keeps the authorities that it was made with.
func (f *Files) ForClient() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		RootCAs:    f.newest().authorities,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &f.newest().certificate, nil
		},
	}
}

// look changes with the files, also if a folder is swapped behind a link, as Kubernetes does.
func (f *Files) look() []os.FileInfo {
	var found []os.FileInfo
	for _, name := range []string{f.cert, f.key, f.ca} {
		if info, err := os.Stat(name); err == nil {
			found = append(found, info)
		}
	}
	return found
}

func unchanged(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

func (f *Files) read() (*pems, error) {
	certificate, err := readFile(certFile, f.cert)
	if err != nil {
		return nil, err
	}
	key, err := readFile(keyFile, f.key)
	if err != nil {
		return nil, err
	}
	authorities, err := readFile(caFile, f.ca)
	if err != nil {
		return nil, err
	}
	found := &pems{authorities: x509.NewCertPool()}
	if !found.authorities.AppendCertsFromPEM(authorities) {
		return nil, fault.CannotStart("%s: %s must hold a certificate in PEM", caFile, f.ca)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(certificate) {
		return nil, fault.CannotStart("%s: %s must hold a certificate in PEM", certFile, f.cert)
	}
	if found.certificate, err = tls.X509KeyPair(certificate, key); err != nil {
		rule := "must hold a private key in PEM, without a password"
		if strings.Contains(err.Error(), "does not match") {
			rule = "must hold the key of the certificate in " + certFile
		}
		return nil, fault.CannotStart("%s: %s %s", keyFile, f.key, rule)
	}
	found.until = found.certificate.Leaf.NotAfter
	return found, f.trusted(found)
}

// trusted says why callers would refuse the certificate.
func (f *Files) trusted(found *pems) error {
	between := x509.NewCertPool()
	for _, each := range found.certificate.Certificate[1:] {
		if parsed, err := x509.ParseCertificate(each); err == nil {
			between.AddCert(parsed)
		}
	}
	_, err := found.certificate.Leaf.Verify(x509.VerifyOptions{Roots: found.authorities, Intermediates: between})
	if err == nil {
		return nil
	}
	why := strings.TrimPrefix(err.Error(), "x509: ")
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		why = "certificate has expired"
	}
	return fault.CannotStart("%s: %s is a certificate that callers would refuse, as they trust %s: %s; renew it",
		certFile, f.cert, caFile, why)
}

func readFile(setting, name string) ([]byte, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, fault.CannotStart("%s: %s cannot be read: %s", setting, name, fault.Reason(err))
	}
	return content, nil
}

func (f *Files) say(message string) {
	slog.Info(message, "logger", "factfold.tls",
		"certificate", f.cert, "valid_until", f.pems.until.UTC().Format(time.RFC3339))
}
