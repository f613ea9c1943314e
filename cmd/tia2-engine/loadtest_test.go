package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// lengthServer answers every picture with the length of its text, and 400 to what is no JSON.
func lengthServer(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct{ Images, Texts []string }
		body, err := io.ReadAll(r.Body)
		if err != nil || json.Unmarshal(body, &q) != nil {
			http.Error(w, "bad", http.StatusBadRequest)
			return
		}
		scores := make([]int, len(q.Images))
		for i := range scores {
			scores[i] = len(q.Texts[i])
		}
		json.NewEncoder(w).Encode(map[string]any{"rewards": map[string]any{"clip": scores}})
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// scoresFile writes the picture p.png, a prompt, and the scores that are expected of them.
func scoresFile(t *testing.T, score int) (picture, prompts, expect string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("p.png", "data"), write("prompts.txt", "a cat\n"),
		write("scores.jsonl", fmt.Sprintf(`{"image":"p.png","prompt":"a cat","texts":["a cat"],"rewards":{"clip":[%d]}}`+"\n", score))
}

func TestLoadtest(t *testing.T) {
	picture, prompts, expect := scoresFile(t, len("a cat"))
	page := filepath.Join(t.TempDir(), "report.html")
	args := []string{"loadtest", "--target", lengthServer(t), "--images", picture, "--prompts", prompts, "--expect", expect,
		"--duration", "100ms", "--warmup", "0", "--concurrency", "1, 2", "--rate", "50", "--items", "2"}
	out := must(t, "", append(args, "--html", page)...)
	for _, want := range []string{"protocol json, all rewards, 2 pictures a request, SLO 500 ms", "1 at a time", "2 at a time", "50/s poisson", "p99"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if data, err := os.ReadFile(page); err != nil || !strings.Contains(string(data), "<svg") {
		t.Errorf("the page: %v", err)
	}
	var v struct {
		Expected string
		Steps    []struct {
			Answered int
			Checked  int `json:"scores_checked"`
			Wrong    int `json:"scores_wrong"`
		}
	}
	if err := json.Unmarshal([]byte(must(t, "", append(args, "--format", "json")...)), &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Steps) != 3 || v.Steps[0].Answered == 0 || v.Steps[0].Checked < 2*v.Steps[0].Answered || v.Steps[0].Wrong != 0 || v.Expected != expect {
		t.Errorf("%+v", v)
	}
}

func TestLoadtestFailures(t *testing.T) {
	picture, prompts, expect := scoresFile(t, 7)
	args := []string{"loadtest", "--target", lengthServer(t), "--images", picture, "--prompts", prompts, "--duration", "200ms", "--warmup", "0", "--timeout", "500ms"}
	r := command(t, "", append(args, "--concurrency", "1", "--expect", expect)...)
	if r.code != exitFailed || !strings.Contains(r.err, `scores are wrong: clip of p.png with "a cat": 5, expected 7`) || !strings.Contains(r.out, "1 at a time") {
		t.Errorf("status %d, stderr %s, stdout %s", r.code, r.err, r.out)
	}
	r = command(t, "", append(args, "--rate", "200", "--bad-fraction", "1")...)
	if r.code != exitFailed || !strings.Contains(r.err, `of the kind "decode bomb" were answered with 200 with a score`) {
		t.Errorf("status %d, stderr %s", r.code, r.err)
	}
}

func TestLoadtestUsage(t *testing.T) {
	for args, want := range map[string]string{
		"":                                      `target "": expected http://HOST:PORT`,
		"--target x":                            `target "x"`,
		"--target http://x --rate 1,no":         "--rate 1,no: expected numbers above 0",
		"--target http://x --concurrency 0":     "--concurrency 0: expected",
		"--target http://x --protocol grpc":     "expected one of [json pickle kserve]",
		"--target http://x --arrivals bursts":   "arrivals",
		"--target http://x --bad-fraction 2":    "bad fraction 2",
		"--target http://x --verify --expect y": "--verify and --expect",
		"--target http://x --format xml":        "--format",
		"--target http://x y":                   "1 arguments",
	} {
		r := command(t, "", append([]string{"loadtest"}, strings.Fields(args)...)...)
		if r.code != exitUsage || !strings.Contains(r.err, want) {
			t.Errorf("%s: status %d, stderr %s", args, r.code, r.err)
		}
	}
	for args, want := range map[string]string{
		"--expect /no/such.jsonl": "--expect: ", "--prompts /no/such": "--prompts: ", "--images /no/such": "--images /no/such", "--tls-ca /no/such": "--tls-ca: ",
	} {
		r := command(t, "", append([]string{"loadtest", "--target", "http://127.0.0.1:1"}, strings.Fields(args)...)...)
		if r.code != exitFailed || !strings.Contains(r.err, want) {
			t.Errorf("%s: status %d, stderr %s", args, r.code, r.err)
		}
	}
}
