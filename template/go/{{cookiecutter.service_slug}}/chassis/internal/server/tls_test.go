package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"factfold/chassis/internal/contract"
	"factfold/chassis/internal/settings"
)

type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	made, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(made)
	if err != nil {
		t.Fatal(err)
	}
	return authority{certificate, key}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue writes a certificate for 127.0.0.1 into a folder, and what goes with it.
func (a authority) issue(t *testing.T, folder string, until time.Time) settings.Settings {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	made, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	found := settings.Default()
	found.Listen = "127.0.0.1:0"
	found.TLSCertFile = write(t, folder, "tls.crt", "CERTIFICATE", made)
	found.TLSKeyFile = write(t, folder, "tls.key", "PRIVATE KEY", private)
	found.TLSCAFile = write(t, folder, "ca.crt", "CERTIFICATE", a.certificate.Raw)
	return found
}

func write(t *testing.T, folder, name, kind string, content []byte) string {
	t.Helper()
	file := filepath.Join(folder, name)
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func serving(t *testing.T, given settings.Settings, alarm func(string)) *Server {
	t.Helper()
	files, err := FilesOf(given, alarm)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{
		Settings: given, TLS: files, Contract: &contract.Contract{}, Register: func(grpc.ServiceRegistrar) {},
		Ready: func() bool { return true }, Status: func() string { return "" }, Drain: func() {},
	})
	if err == nil {
		err = s.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.Drain(ctx)
	})
	return s
}

// check asks for health once, over a connection of its own.
func check(t *testing.T, address string, as credentials.TransportCredentials) codes.Code {
	t.Helper()
	channel, err := grpc.NewClient(address, grpc.WithTransportCredentials(as))
	if err != nil {
		t.Fatal(err)
	}
	defer channel.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err = grpc_health_v1.NewHealthClient(channel).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: alive})
	return status.Code(err)
}

func as(t *testing.T, given settings.Settings) credentials.TransportCredentials {
	t.Helper()
	files, err := FilesOf(given, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	return credentials.NewTLS(files.ForClient())
}

func TestACallerOfTheAuthorityIsAnsweredAndNobodyElse(t *testing.T) {
	own, other, soon := newAuthority(t), newAuthority(t), time.Now().Add(time.Hour)
	s := serving(t, own.issue(t, t.TempDir(), soon), func(text string) { t.Error(text) })
	trusting := x509.NewCertPool()
	trusting.AddCert(own.certificate)
	for name, each := range map[string]struct {
		as   credentials.TransportCredentials
		want codes.Code
	}{
		"with a certificate":        {as(t, own.issue(t, t.TempDir(), soon)), codes.OK},
		"with one of somebody else": {as(t, other.issue(t, t.TempDir(), soon)), codes.Unavailable},
		"without one":               {credentials.NewTLS(&tls.Config{RootCAs: trusting}), codes.Unavailable},
		"without TLS":               {insecure.NewCredentials(), codes.Unavailable},
	} {
		if got := check(t, s.Address(), each.as); got != each.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestProbesHaveAnAddressWithoutTLS(t *testing.T) {
	given := newAuthority(t).issue(t, t.TempDir(), time.Now().Add(time.Hour))
	given.HealthListen = "127.0.0.1:0"
	s := serving(t, given, func(text string) { t.Error(text) })
	if got := check(t, s.probed, insecure.NewCredentials()); got != codes.OK {
		t.Error(got)
	}
}

func TestFilesThatAreReplacedAreUsedWithoutARestart(t *testing.T) {
	folder, soon, first, second := t.TempDir(), time.Now().Add(time.Hour), newAuthority(t), newAuthority(t)
	var alarms []string
	s := serving(t, first.issue(t, folder, soon), func(text string) { alarms = append(alarms, text) })
	second.issue(t, folder, soon)
	if got := check(t, s.Address(), as(t, second.issue(t, t.TempDir(), soon))); got != codes.OK {
		t.Error(got)
	}
	if err := os.WriteFile(filepath.Join(folder, "tls.key"), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := check(t, s.Address(), as(t, second.issue(t, t.TempDir(), soon))); got != codes.OK {
		t.Error(got)
	}
	want := "the former TLS files stay in use: FACTFOLD_TLS_KEY_FILE: " + filepath.Join(folder, "tls.key") +
		" must hold a private key in PEM, without a password"
	if len(alarms) != 1 || alarms[0] != want {
		t.Error(alarms)
	}
}

func TestWhatCannotBeUsedIsNamed(t *testing.T) {
	own := newAuthority(t)
	for want, spoil := range map[string]func(*settings.Settings){
		"FACTFOLD_TLS_CERT_FILE and FACTFOLD_TLS_KEY_FILE must be set too: TLS needs FACTFOLD_TLS_CERT_FILE, " +
			"FACTFOLD_TLS_KEY_FILE and FACTFOLD_TLS_CA_FILE": func(s *settings.Settings) {
			s.TLSCertFile, s.TLSKeyFile = "", ""
		},
		"FACTFOLD_TLS_CA_FILE: /none cannot be read: No such file or directory": func(s *settings.Settings) {
			s.TLSCAFile = "/none"
		},
		"FACTFOLD_TLS_CERT_FILE: KEY must hold a certificate in PEM": func(s *settings.Settings) {
			s.TLSCertFile = s.TLSKeyFile
		},
		"FACTFOLD_TLS_KEY_FILE: KEY must hold the key of the certificate in FACTFOLD_TLS_CERT_FILE": func(s *settings.Settings) {
			s.TLSKeyFile = own.issue(t, t.TempDir(), time.Now().Add(time.Hour)).TLSKeyFile
		},
		"FACTFOLD_TLS_CERT_FILE: CERT is a certificate that callers would refuse, as they trust FACTFOLD_TLS_CA_FILE: " +
			"certificate has expired; renew it": func(s *settings.Settings) {
			*s = own.issue(t, t.TempDir(), time.Now().Add(-time.Hour))
		},
	} {
		given := own.issue(t, t.TempDir(), time.Now().Add(time.Hour))
		spoil(&given)
		_, err := FilesOf(given, func(string) {})
		want = strings.NewReplacer("KEY must", given.TLSKeyFile+" must", "CERT is", given.TLSCertFile+" is").Replace(want)
		if err == nil || err.Error() != want {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
}

func TestAnAddressInUseIsOneLine(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, err = listen(taken.Addr().String(), "FACTFOLD_LISTEN")
	want := "FACTFOLD_LISTEN: " + taken.Addr().String() + " cannot be listened on; is another process there?"
	if err == nil || err.Error() != want {
		t.Error(err)
	}
}
