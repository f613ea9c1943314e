package api

import (
	"bufio"
	"context"
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
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// listen serves a handler on a port of its own and returns its address.
func listen(t testing.TB, h http.Handler, cfg Config) (*Listener, string) {
	t.Helper()
	l, err := Listen("127.0.0.1:0", h, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- l.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = l.Shutdown(ctx) // a client of the test may not have gone
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l, l.Addr().String()
}

// dial opens a connection that fails the test where it waits longer than 10 s.
func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// send writes text and returns all that comes back until the server closes.
func send(t testing.TB, c net.Conn, text string) string {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil && !strings.Contains(err.Error(), "reset") {
		t.Fatalf("after %q: %v", b, err)
	}
	return string(b)
}

func TestSlowClients(t *testing.T) {
	stalled := make(chan error, 1)
	flood := Route{Pattern: "GET /flood", Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		block := make([]byte, 1<<20)
		for range 256 {
			if _, err := w.Write(block); err != nil {
				stalled <- err
				return
			}
		}
		stalled <- nil
	})}
	const limit = 200 * time.Millisecond
	traced := newTracing(sdktrace.WithSyncer(tracetest.NewInMemoryExporter())) // it wraps writers, which must not hide deadlines
	h := Handler(newCore(t, &fake{}, nil), Config{WriteTimeout: limit, Tracing: traced}, flood)
	_, addr := listen(t, h, Config{ReadHeaderTimeout: limit, ReadTimeout: 2 * limit, WriteTimeout: limit, IdleTimeout: limit})
	for _, c := range []struct{ name, text, want string }{
		{"nothing sent", "", ""},
		{"half a header", "POST /v1/score HTTP/1.1\r\nHost: x\r\nA: ", ""},
		{"half a body", "POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{", "408 Request Timeout"},
		{"half a chunked body", "POST /v1/score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", "408 Request Timeout"},
		{"half a body with a deadline", "POST /v1/score HTTP/1.1\r\nHost: x\r\nX-Timeout-Ms: 100\r\nContent-Length: 1000\r\n\r\n{", "504 Gateway Timeout"},
		{"nothing after an answer", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			if got := send(t, dial(t, addr), c.text); !strings.Contains(got, c.want) || c.want == "" && got != "" {
				t.Errorf("got %q, want %q in it", got, c.want)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("the connection was open for %v", took)
			}
		})
	}
	t.Run("who does not read", func(t *testing.T) {
		t.Parallel()
		c := dial(t, addr)
		if _, err := io.WriteString(c, "GET /flood HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-stalled:
			if err == nil {
				t.Error("256 MiB were taken by nobody")
			}
		case <-time.After(8 * time.Second):
			t.Error("the handler still waits for a client that does not read")
		}
	})
}

// TestLongComputation: time limits of clients do not end what the server itself takes time for.
func TestLongComputation(t *testing.T) {
	f := &fake{}
	const limit = 100 * time.Millisecond
	h := Handler(newCore(t, f, nil), Config{WriteTimeout: limit})
	_, addr := listen(t, h, Config{ReadHeaderTimeout: limit, ReadTimeout: limit, WriteTimeout: limit, IdleTimeout: limit})
	f.hold.Lock()
	release := time.AfterFunc(6*limit, f.hold.Unlock)
	defer release.Stop()
	if r := call(t, "POST", "http://"+addr+"/v1/score", `{"images":["YQ=="],"texts":["x"]}`); r.StatusCode != 200 {
		t.Errorf("status %d: %s", r.StatusCode, r.body)
	}
}

func TestLargeRequests(t *testing.T) {
	h := Handler(newCore(t, &fake{}, nil), Config{MaxBodyBytes: 1000})
	_, addr := listen(t, h, Config{MaxHeaderBytes: 8 << 10})
	for _, c := range []struct{ name, text, want string }{
		{"announced", "POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", "413 Request Entity Too Large"},
		{"asked before", "POST /v1/score HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999\r\n\r\n", "413 Request Entity Too Large"},
		{"of unknown length", "POST /v1/score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + strings.Repeat(" ", 1001) + "\r\n0\r\n\r\n", "413 Request Entity Too Large"},
		{"headers", "GET /healthz HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 16<<10) + "\r\n\r\n", "431 Request Header Fields Too Large"},
		{"to a path that is not there", "POST /a/b/c HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 99999999999\r\n\r\n", "404 Not Found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := send(t, dial(t, addr), c.text)
			if !strings.HasPrefix(got, "HTTP/1.1 "+c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestBodiesTogether: what all requests hold is bounded, and given back at their end.
func TestBodiesTogether(t *testing.T) {
	h := Handler(newCore(t, &fake{}, nil), Config{MaxBodyBytes: 1000, MaxBodyBytesAll: 1200})
	_, addr := listen(t, h, Config{})
	url := "http://" + addr + "/v1/score"
	body := `{"images":["YQ=="],"texts":["` + strings.Repeat("x", 400) + `"]}`
	slow := dial(t, addr)
	fmt.Fprintf(slow, "POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n%s", strings.Repeat(" ", 900))
	eventually(t, "a request is refused", func() bool {
		r := call(t, "POST", url, body)
		return r.StatusCode == http.StatusTooManyRequests
	})
	slow.Close()
	eventually(t, "a request is answered again", func() bool { return call(t, "POST", url, body).StatusCode == 200 })
	eventually(t, "all bytes are given back", func() bool { return h.(*handler).budget.used.Load() == 0 })
}

func TestConnections(t *testing.T) {
	h := Handler(newCore(t, &fake{}, nil), Config{})
	_, addr := listen(t, h, Config{MaxConnections: 1})
	first := dial(t, addr)
	io.WriteString(first, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := http.ReadResponse(bufio.NewReader(first), nil); err != nil {
		t.Fatal(err)
	}
	second := dial(t, addr)
	io.WriteString(second, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	second.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := second.Read(make([]byte, 1)); !os.IsTimeout(err) {
		t.Fatalf("a second connection was answered: %v", err)
	}
	first.Close()
	second.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := second.Read(make([]byte, 1)); err != nil {
		t.Fatalf("a connection that waited is not answered: %v", err)
	}
}

func TestShutdown(t *testing.T) {
	f := &fake{}
	l, addr := listen(t, Handler(newCore(t, f, nil), Config{}), Config{})
	f.hold.Lock()
	answered := make(chan reply, 1)
	go func() {
		answered <- call(t, "POST", "http://"+addr+"/v1/score", `{"images":["YQ=="],"texts":["x"]}`)
	}()
	time.Sleep(100 * time.Millisecond)
	ended := make(chan error, 1)
	go func() { ended <- l.Shutdown(t.Context()) }()
	time.Sleep(100 * time.Millisecond)
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("a connection was accepted after Shutdown")
	}
	f.hold.Unlock()
	if r := <-answered; r.StatusCode != 200 {
		t.Errorf("status %d of a request that was accepted before", r.StatusCode)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestListenErrors(t *testing.T) {
	_, addr := listen(t, http.NotFoundHandler(), Config{})
	for _, open := range []func(string, http.Handler, Config) (*Listener, error){Listen, ListenAdmin} {
		if _, err := open(addr, http.NotFoundHandler(), Config{}); err == nil || !strings.Contains(err.Error(), addr) {
			t.Errorf("error %v: expected the address in it", err)
		}
	}
}

// authority signs certificates of the test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t testing.TB) *authority {
	a := &authority{}
	a.pem, _, a.cert, a.key = a.sign(t, "authority")
	return a
}

// sign makes a certificate and its key; the authority's own where it has none yet.
func (a *authority) sign(t testing.TB, name string) (certPEM, keyPEM string, cert *x509.Certificate, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true, IsCA: a.cert == nil}
	parent, signer := template, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return block("CERTIFICATE", der), block("PRIVATE KEY", keyDER), cert, key
}

// client returns a client that trusts the authority and, where name is not "", shows a certificate.
func (a *authority) client(t testing.TB, name string) *http.Client {
	t.Helper()
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AddCert(a.cert)
	if name != "" {
		cert, key, _, _ := a.sign(t, name)
		pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

func TestTLS(t *testing.T) {
	a := newAuthority(t)
	cert, key, first, _ := a.sign(t, "first")
	certPath, keyPath, caPath := writeFile(t, "cert.pem", cert), writeFile(t, "key.pem", key), writeFile(t, "ca.pem", a.pem)
	certs, err := OpenCertificates(certPath, keyPath, caPath)
	if err != nil {
		t.Fatal(err)
	}
	who := Route{Pattern: "GET /who", Handler: answering(func(r *http.Request) string { return r.Proto + " " + Client(r.Context()) })}
	_, addr := listen(t, Handler(newCore(t, &fake{}, nil), Config{}, who), Config{TLS: certs})
	url := "https://" + addr + "/who"
	get := func(c *http.Client) (string, *x509.Certificate, error) {
		resp, err := c.Get(url)
		if err != nil {
			return "", nil, err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if resp.Header.Get("Strict-Transport-Security") == "" {
			t.Error("no Strict-Transport-Security")
		}
		return string(b), resp.TLS.PeerCertificates[0], err
	}
	got, shown, err := get(a.client(t, "trainer"))
	if err != nil || got != "HTTP/2.0 trainer" || !shown.Equal(first) {
		t.Errorf("got %q, %v", got, err)
	}
	if _, _, err := get(a.client(t, "")); err == nil {
		t.Error("a client without a certificate was let in")
	}
	if got := send(t, dial(t, addr), "GET /who HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.Contains(got, "400 Bad Request") {
		t.Errorf("plain HTTP: %q", got)
	}
	cert, key, second, _ := a.sign(t, "second")
	for path, text := range map[string]string{certPath: cert, keyPath: key} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := certs.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, shown, err = get(a.client(t, "trainer")); err != nil || !shown.Equal(second) {
		t.Errorf("after Reload the certificate is the old one, or %v", err)
	}
	if err := os.WriteFile(caPath, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := certs.Reload(); err == nil || !strings.Contains(err.Error(), caPath) {
		t.Errorf("error %v: expected the file's name", err)
	}
	if _, _, err = get(a.client(t, "trainer")); err != nil {
		t.Errorf("after a failed Reload: %v", err)
	}
	if _, err := OpenCertificates(certPath, certPath, ""); err == nil || !strings.Contains(err.Error(), certPath) {
		t.Errorf("error %v: expected the file's name", err)
	}
}
