package redislog

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority signs certificates, and has its own in a file.
type authority struct {
	t      *testing.T
	folder string
	key    *ecdsa.PrivateKey
	cert   *x509.Certificate
	file   string
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, folder: t.TempDir(), key: newKey(t)}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true,
	}
	a.file = a.write("ca.crt", "CERTIFICATE", a.sign(a.cert, a.key))
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) sign(what *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	signed, err := x509.CreateCertificate(rand.Reader, what, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return signed
}

func (a *authority) write(name, kind string, data []byte) string {
	path := filepath.Join(a.folder, name)
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// files are those of a certificate for an address, and of its key.
func (a *authority) files(address string, end time.Time) (cert, key string) {
	its := newKey(a.t)
	signed := a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "redis"},
		IPAddresses: []net.IP{net.ParseIP(address)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: end,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, its)
	data, err := x509.MarshalPKCS8PrivateKey(its)
	if err != nil {
		a.t.Fatal(err)
	}
	name := fmt.Sprint(address, end.Unix())
	return a.write(name+".crt", "CERTIFICATE", signed), a.write(name+".key", "PRIVATE KEY", data)
}

// inFront speaks TLS for a server that does not, and returns its address.
func inFront(t *testing.T, s *server, its *authority, address string, end time.Time, clients tls.ClientAuthType) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(its.files(address, end))
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(mustParse(t, its.file))
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: clients, ClientCAs: trusted,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer client.Close()
				behind, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
				if err != nil {
					return
				}
				defer behind.Close()
				go io.Copy(client, behind)
				io.Copy(behind, client)
			}()
		}
	}()
	return listener.Addr().String()
}

func mustParse(t *testing.T, file string) *x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestTLSWorksOrIsOneLineThatSaysWhatToDo(t *testing.T) {
	s := startServer(t)
	its, other := newAuthority(t), newAuthority(t)
	later, past := time.Now().Add(time.Hour), time.Now().Add(-time.Minute)
	cert, key := its.files("127.0.0.1", later)
	strangersCert, strangersKey := other.files("127.0.0.1", later)
	clean := inFront(t, s, its, "127.0.0.1", later, tls.NoClientCert)
	elsewhere := inFront(t, s, its, "127.0.0.9", later, tls.NoClientCert)
	expired := inFront(t, s, its, "127.0.0.1", past, tls.NoClientCert)
	asking := inFront(t, s, its, "127.0.0.1", later, tls.RequireAndVerifyClientCert)
	trusting := "?ssl_ca_certs=" + its.file
	for name, each := range map[string]struct{ url, says string }{
		"it works":             {"rediss://" + clean + trusting, ""},
		"with a certificate":   {"rediss://" + asking + trusting + "&ssl_certfile=" + cert + "&ssl_keyfile=" + key, ""},
		"whoever it is":        {"rediss://" + clean + "?ssl_cert_reqs=none", ""},
		"whatever its name is": {"rediss://" + elsewhere + trusting + "&ssl_check_hostname=false", ""},
		"nobody it trusts, whatever its name is": {"rediss://" + elsewhere + "?ssl_check_hostname=false&ssl_ca_certs=" + other.file,
			"no authority in " + other.file + " has signed"},
		"nobody that this machine trusts": {"rediss://" + clean, "name the file of the one that has: ?ssl_ca_certs=FILE"},
		"another authority":               {"rediss://" + clean + "?ssl_ca_certs=" + other.file, "no authority in " + other.file},
		"another name":                    {"rediss://" + elsewhere + trusting, "use a name that it is for"},
		"expired":                         {"rediss://" + expired + trusting, "has expired"},
		"no certificate":                  {"rediss://" + asking + trusting, "if it asks clients for certificates, add ssl_certfile"},
		"a stranger's": {"rediss://" + asking + trusting + "&ssl_certfile=" + strangersCert + "&ssl_keyfile=" + strangersKey,
			"must not an authority that it trusts have signed it?"},
		"a key that is another's": {"rediss://" + asking + trusting + "&ssl_certfile=" + cert + "&ssl_keyfile=" + strangersKey,
			"must hold the key of the certificate in ssl_certfile, in FACTFOLD_REDIS_URL"},
		"without TLS": {"redis://" + clean, "write rediss:// in FACTFOLD_REDIS_URL"},
	} {
		link, err := New(parsed(t, each.url)).Link(t.Context(), "any")
		if err == nil {
			link.Close()
		}
		if each.says == "" && err != nil || each.says != "" && (err == nil || !strings.Contains(err.Error(), each.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
