package loadtest

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"
)

// measured is a report of real runs: open, closed, with bad requests.
func measured(t *testing.T) *Report {
	t.Helper()
	f := &fake{delay: time.Millisecond}
	opt := quick(f.start(t))
	opt.Concurrency, opt.Rates, opt.BadFraction, opt.Duration = []int{1, 2}, []float64{50, 100}, 0.3, 200*time.Millisecond
	return run(t, work(t, 3, 3), opt)
}

func TestHTML(t *testing.T) {
	r := measured(t)
	r.Target = "http://<script>"
	var b bytes.Buffer
	if err := r.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	if n := strings.Count(page, "<svg"); n != 6 {
		t.Errorf("%d plots, want latency and answers of both loops, shares and times", n)
	}
	for _, want := range []string{"http://&lt;script&gt;", "Latency by load", "90 %", "decode bomb", "50/s constant", "2 at a time"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	for _, not := range []string{"<script", "ZgotmplZ", "<?xml", "http-equiv"} {
		if strings.Contains(page, not) {
			t.Errorf("%q in the page", not)
		}
	}
	for rest := page; ; { // each plot is whole XML
		_, after, found := strings.Cut(rest, "<figure>")
		if !found {
			break
		}
		var svg string
		svg, rest, _ = strings.Cut(after, "</figure>")
		decoder := xml.NewDecoder(strings.NewReader(svg))
		for {
			if _, err := decoder.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%v in %.200s", err, svg)
			}
		}
	}
}

func TestHTMLWithoutAnswers(t *testing.T) {
	r := &Report{Target: "http://x", Steps: []*Step{{Name: "1 at a time", Loop: "closed", Concurrency: 1, Seconds: 1, Sent: 3, Lost: 3, Errors: map[string]int{kindTimeout: 3}}}}
	var b bytes.Buffer
	if err := r.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "3 of 3 requests got no answer: 3 timeout") {
		t.Errorf("%s", b.String())
	}
}

func TestTables(t *testing.T) {
	r := measured(t)
	tables := r.Tables()
	if len(tables) != 2 || len(tables[0].Rows) != 4 || len(tables[1].Rows) == 0 {
		t.Fatalf("%d tables", len(tables))
	}
	sent, want := 0, 0
	for _, row := range tables[1].Rows {
		n, _ := strconv.Atoi(row[1])
		sent += n
	}
	for _, s := range r.Steps {
		for _, b := range s.Bad {
			want += b.Sent
		}
	}
	if sent != want || want == 0 {
		t.Errorf("the table has %d bad requests of %d", sent, want)
	}
	for _, table := range tables {
		for _, row := range table.Rows {
			if len(row) != len(table.Header) || len(row) != len(table.Numeric) {
				t.Errorf("row %q under %q", row, table.Header)
			}
		}
	}
	text := tables[0].Render("table")
	for _, want := range []string{"1 at a time", "100/s constant", "p99", "in SLO"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestJSON(t *testing.T) {
	data, err := json.Marshal(measured(t))
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Target string
		Steps  []struct {
			Name    string
			Latency map[string]float64 `json:"latency_ms"`
			Bad     []map[string]any   `json:"bad_requests"`
		}
	}
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Steps) != 4 || v.Steps[0].Latency["p99"] <= 0 || len(v.Steps[0].Latency) != 7 {
		t.Errorf("%s", data)
	}
}

func TestRemarks(t *testing.T) {
	r := &Report{SLOMS: 500, Pairs: 4, Items: 2, Steps: []*Step{
		{Name: "9/s poisson", Loop: "open", Sent: 100, Answered: 50, LateMS: 80, Latency: Latency{P99: 100}, NoRetryAfter: 3, GoodShare: 0.99999},
	}}
	text := strings.Join(r.Remarks(), "\n")
	for _, want := range []string{
		"1 step with fewer than 100 answers", "the 4 pairs were sent up to 50 times a step", "3 refusals (429, 503) had no Retry-After",
		"9/s poisson: requests left up to 80 ms late", "not compared with anything",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if got := percent(r.Steps[0].GoodShare); got != "99.99 %" {
		t.Errorf("0.99999 is written as %s", got)
	}
	for want, s := range map[string]Search{
		"search: 99 % of requests are answered within 500 ms up to 40/s, not at 42/s": {RatePS: 40, FailsPS: 42},
		"up to 40/s, the highest rate tried":                                          {RatePS: 40},
		"search: at no rate from 42/s on":                                             {FailsPS: 42},
	} {
		r.Search = &s
		if got := r.Remarks()[0]; !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
