package api

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestIsPublic(t *testing.T) {
	for addr, want := range map[string]bool{
		"8.8.8.8": true, "1.1.1.1": true, "172.15.255.255": true, "172.32.0.0": true, "100.63.255.255": true, "2606:4700::1111": true, "2a00:1450::1": true,
		"::ffff:8.8.8.8": true,
		"127.0.0.1":      false, "127.255.255.254": false, "0.0.0.0": false, "0.1.2.3": false, "10.0.0.1": false, "172.16.0.1": false, "172.31.255.255": false,
		"192.168.1.1": false, "169.254.169.254": false, "100.64.0.1": false, "100.127.255.255": false, "198.18.0.1": false, "198.19.255.255": false,
		"192.0.0.8": false, "192.0.2.1": false, "192.88.99.1": false, "198.51.100.1": false, "203.0.113.1": false, "224.0.0.1": false, "239.255.255.255": false,
		"240.0.0.1": false, "255.255.255.255": false,
		"::": false, "::1": false, "::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::ffff:169.254.169.254": false, "::7f00:1": false, "64:ff9b::7f00:1": false,
		"64:ff9b:1::1": false, "100::1": false, "fc00::1": false, "fd12::1": false, "fe80::1": false, "fe80::1%eth0": false, "fec0::1": false, "ff02::1": false,
		"2001::1": false, "2001:db8::1": false, "2002:7f00:1::": false, "2002:a00:1::1": false, "3fff::1": false,
	} {
		if got := isPublic(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: public: %v, want %v", addr, got, want)
		}
	}
}

// pictures is a web server of the test's.
func pictures(t testing.TB) *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /a.png", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Cookie") != "" || r.Header.Get("Authorization") != "" || r.Header.Get("Referer") != "" {
			w.WriteHeader(400)
		}
		fmt.Fprint(w, "a")
	})
	mux.HandleFunc("GET /redirect/{n}", func(w http.ResponseWriter, r *http.Request) {
		var n int
		if fmt.Sscan(r.PathValue("n"), &n); n == 0 {
			http.Redirect(w, r, "/a.png", http.StatusFound)
			return
		}
		http.Redirect(w, r, fmt.Sprint("/redirect/", n-1), http.StatusFound)
	})
	mux.HandleFunc("GET /away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://10.1.2.3/a.png", http.StatusFound)
	})
	mux.HandleFunc("GET /file", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
	})
	mux.HandleFunc("GET /announced", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000000")
		w.Write(make([]byte, 1000000))
	})
	mux.HandleFunc("GET /endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<10)); err != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	})
	mux.HandleFunc("GET /slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("GET /drip", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			w.Write([]byte("a"))
			w.(http.Flusher).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

// TestFetch asks a server that may reach this machine, and nothing else.
func TestFetch(t *testing.T) {
	web := pictures(t)
	cfg := Config{AllowFetch: true, FetchTimeout: 300 * time.Millisecond, MaxImageBytes: 10_000, MaxBodyBytes: 25_000}
	h := Handler(newCore(t, &fake{}, nil), cfg).(*handler)
	h.fetcher = newFetcher(h.cfg, func(a netip.Addr) bool { return a.IsLoopback() })
	url := serveOn(t, h)
	for _, c := range []struct{ path, want string }{
		{"/a.png", ""},
		{"/redirect/2", ""},
		{"/redirect/3", "redirected more than 3 times"},
		{"/away", "it could not be fetched"},
		{"/file", "http or https"},
		{"/announced", "more than 10000 bytes"},
		{"/endless", "more than 10000 bytes"},
		{"/slow", "in time"},
		{"/drip", "in time"},
		{"/none", "status 404"},
		{"/" + strings.Repeat("x", 3000), "2048 characters"},
	} {
		t.Run(c.path[:min(len(c.path), 20)], func(t *testing.T) {
			body := fmt.Sprintf(`{"images":[%q,"YQ=="],"texts":["x"],"rewards":["clip"]}`, web.URL+c.path)
			r := call(t, "POST", url+"/v1/score", body)
			want := `{"rewards":{"clip":[101,101]},"pairs":[[0,0],[1,0]],"errors":[]}`
			if c.want != "" {
				if !strings.Contains(r.body, `"clip":[null,101]`) || !strings.Contains(r.body, c.want) {
					t.Errorf("status %d: %s: expected %q", r.StatusCode, r.body, c.want)
				}
			} else if strings.TrimSpace(r.body) != want {
				t.Errorf("status %d: %s, want %s", r.StatusCode, r.body, want)
			}
		})
	}
	if r := call(t, "POST", url+"/v1/score", `{"images":["http://user:secret@127.0.0.1/a.png"],"texts":["x"]}`); !strings.Contains(r.body, "without a user") {
		t.Errorf("a user in the URL: %s", r.body)
	}
	eventually(t, "all bytes are given back", func() bool { return h.budget.used.Load() == 0 })
}

// TestFetchGuard: no way leads to an address that is not public, and what the client hears does not tell what is there.
func TestFetchGuard(t *testing.T) {
	web := pictures(t)
	_, port, _ := strings.Cut(strings.TrimPrefix(web.URL, "http://"), ":")
	url := serveHTTP(t, &fake{}, Config{AllowFetch: true, FetchTimeout: 2 * time.Second})
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "127.1", "0x7f.0.0.1", "169.254.169.254"} {
		address := "http://" + host + ":" + port + "/a.png"
		r := call(t, "POST", url+"/v1/score", fmt.Sprintf(`{"images":[%q],"texts":["x"],"rewards":["clip"]}`, address))
		if want := `{"rewards":{"clip":[null]},"pairs":[[0,0]],"errors":[{"image":0,"message":"it could not be fetched"}]}`; strings.TrimSpace(r.body) != want {
			t.Errorf("%s: %s, want %s", address, r.body, want)
		}
	}
}

// TestFetchTogether: what one request fetches is bounded like a body.
func TestFetchTogether(t *testing.T) {
	web := pictures(t)
	h := Handler(newCore(t, &fake{}, nil), Config{AllowFetch: true, MaxBodyBytes: 2_500_000, MaxImageBytes: 1 << 20}).(*handler)
	h.fetcher = newFetcher(h.cfg, func(netip.Addr) bool { return true })
	url := serveOn(t, h)
	address := fmt.Sprintf("%q", web.URL+"/announced")
	r := call(t, "POST", url+"/v1/score", `{"images":[`+strings.Repeat(address+",", 3)+address+`],"texts":["x"],"rewards":["clip"]}`)
	r.wantError(t, 413, "too_large", "more than 2500000 bytes together")
	if r := call(t, "POST", url+"/v1/score", `{"images":[`+address+","+address+`],"texts":["x"],"rewards":["clip"]}`); r.StatusCode != 200 {
		t.Errorf("2 pictures of 1 MB: status %d: %s", r.StatusCode, r.body)
	}
}
