package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/engine/serve"
	"github.com/tia2-engine/tia2-engine/engine/serve/api"
)

// fake scores a text by its length: clip 20 + a tenth of it, imagereward the opposite.
type fake struct{}

var rewards = []string{"clip", "hpsv2", "imagereward"}

func (fake) Rewards() []string { return rewards }
func (fake) Close() error      { return nil }

func (fake) Score(_ context.Context, images []engine.Image, texts []string, pairs []engine.Pair, names []string) ([]engine.Reward, error) {
	var out []engine.Reward
	for _, name := range names {
		r := engine.Reward{Name: name, Images: len(pairs), Texts: 1}
		for _, p := range pairs {
			length := float32(len(texts[p.Text]))
			r.Scores = append(r.Scores, map[string]float32{"clip": 20 + length/10, "hpsv2": 0.2 + length/1000, "imagereward": -length / 20}[name])
		}
		out = append(out, r)
	}
	return out, nil
}

func (fake) EncodeImages(context.Context, string, []engine.Image) (engine.Embeddings, error) {
	return engine.Embeddings{}, errors.New("not in these tests")
}

func (fake) EncodeTexts(context.Context, string, []string) (engine.Embeddings, error) {
	return engine.Embeddings{}, errors.New("not in these tests")
}

func (fake) Models() []engine.Info {
	mean, std := [3]float32{.48, .46, .41}, [3]float32{.27, .26, .28}
	return []engine.Info{
		{Name: "clip-vit-l-14", Family: "clip", Rewards: []string{"clip"}, ImageSize: 224, Pipeline: "openai", Mean: mean, Std: std, LogitScale: 100},
		{Name: "hpsv2", Family: "clip", Rewards: []string{"hpsv2"}, ImageSize: 224, Pipeline: "hpsv2", Mean: mean, Std: std, LogitScale: 100},
		{Name: "imagereward", Family: "blip", Rewards: []string{"imagereward"}, ImageSize: 224, Pipeline: "openai", Mean: mean, Std: std, LogitScale: 1},
	}
}

// newServer returns the address of a server with the page.
func newServer(t testing.TB, cfg api.Config) string {
	t.Helper()
	core := serve.New(fake{}, serve.Options{})
	t.Cleanup(func() { core.Close() })
	server := httptest.NewServer(api.Handler(core, cfg, Routes()...))
	t.Cleanup(server.Close)
	return server.URL
}

func TestFiles(t *testing.T) {
	url := newServer(t, api.Config{})
	for path, contentType := range map[string]string{"/": "text/html", "/web/app.js": "text/javascript", "/web/style.css": "text/css", "/web/icon.svg": "image/svg+xml"} {
		resp, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		if _, err := body.ReadFrom(resp.Body); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), contentType) || resp.Header.Get("Content-Security-Policy") != policy {
			t.Errorf("%s: status %d, %v", path, resp.StatusCode, resp.Header)
		}
		for _, elsewhere := range []string{"http://", "https://", "//"} {
			for _, attribute := range []string{`src="`, `href="`, `url(`, `fetch("`} {
				if strings.Contains(body.String(), attribute+elsewhere) {
					t.Errorf("%s loads from elsewhere: %s%s", path, attribute, elsewhere)
				}
			}
		}
		req, err := http.NewRequest("GET", url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("If-None-Match", resp.Header.Get("ETag"))
		again, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if again.Body.Close(); again.StatusCode != http.StatusNotModified {
			t.Errorf("%s: status %d of what the browser has, want 304", path, again.StatusCode)
		}
	}
}

// browser is a page in a headless Chromium.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu         sync.Mutex
	complaints []string // failed loads, exceptions, violations of the policy
}

// openPage shows a page. It skips the test where there is no Chromium.
func openPage(t *testing.T, url string) *browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("no Chromium on this machine (Debian: apt-get install chromium)")
	}
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.NoFirstRun, chromedp.Flag("disable-background-networking", true), chromedp.WindowSize(1180, 900))
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx}
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatal(err)
	}
	limited, cancel := context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	b.ctx = limited
	b.do(chromedp.Navigate(url), chromedp.WaitVisible("#go"))
	return b
}

func (b *browser) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *log.EventEntryAdded:
		b.complaints = append(b.complaints, e.Entry.Text+" "+e.Entry.URL)
	case *runtime.EventExceptionThrown:
		b.complaints = append(b.complaints, e.ExceptionDetails.Text+" "+e.ExceptionDetails.URL)
	}
}

// do does steps one after the other.
func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.fatal(err)
	}
}

func (b *browser) fatal(err error) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.t.Fatalf("%v; the browser says %q", err, b.complaints)
}

// get returns the value of an action.
func get[T any](b *browser, a chromedp.Action[T]) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, a)
	if err != nil {
		b.fatal(err)
	}
	return v
}

// until waits for a JavaScript condition.
func (b *browser) until(condition string) {
	b.t.Helper()
	if _, err := chromedp.Run(b.ctx, chromedp.Poll[chromedp.Void](condition)); err != nil {
		b.fatal(fmt.Errorf("%s: %w", condition, err))
	}
}

// text returns the visible text of an element.
func (b *browser) text(selector string) string {
	b.t.Helper()
	return get(b, chromedp.Text(selector))
}

// shoot leaves a picture of the whole page where TIA2_SCREENSHOTS says.
func (b *browser) shoot(name string) {
	b.t.Helper()
	if dir := os.Getenv("TIA2_SCREENSHOTS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".png"), get(b, chromedp.FullScreenshot(100)), 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
}

// picture writes a file that is not square.
func picture(t testing.TB) string {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, 480, 320))
	for i := range 480 * 320 {
		x, y := i%480, i/480
		c := color.NRGBA{uint8(60 + x/4), uint8(140 - y/4), uint8(220 - x/5), 255}
		if (x-160)*(x-160)+(y-190)*(y-190) < 80*80 {
			c = color.NRGBA{40, 80, 210, 255}
		}
		if x > 270 && x < 400 && y > 140 && y < 270 {
			c = color.NRGBA{215, 50, 45, 255}
		}
		img.Set(x, y, c)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cube and sphere.png")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPage uses the page as a person does. With TIA2_SCREENSHOTS set to a folder it leaves pictures of it there.
func TestPage(t *testing.T) {
	b := openPage(t, newServer(t, api.Config{}))
	b.until(`document.getElementById("models").textContent.includes("clip")`)
	if got := b.text("#models"); got != "clip, hpsv2, imagereward" {
		t.Errorf("models %q", got)
	}
	b.shoot("empty")
	b.do(chromedp.SetUploadFiles("#file", []string{picture(t)}), chromedp.WaitVisible("#preview"),
		chromedp.SendKeys("#prompt", "a red cube beside a blue sphere"),
		chromedp.SendKeys("#contrastive", "a blue cube beside a red sphere\na red sphere\n\na red sphere\na red cube beside a blue sphere\na green cone under a table"),
		chromedp.Click("#go"), chromedp.WaitVisible("#views figure:nth-child(2) img"))
	b.until(`[...document.querySelectorAll("#views img")].every((i) => i.complete && i.naturalWidth === 224)`)
	if got := b.text("#filename"); got != "cube and sphere.png" {
		t.Errorf("file %q", got)
	}
	// clip scores 23.1, 23.1, 21.2 and 22.6: softmax of 10 * (1, 1, 0, 0.737)
	const card = "#rewards .card:first-child "
	if reward, confidence := b.text(card+".figure"), b.text(card+".figure.main"); reward != "reward 23.100" || confidence != "confidence 48.3 %" {
		t.Errorf("%q, %q", reward, confidence)
	}
	if own := b.text(card + "tr.own"); !strings.Contains(own, "48.3 %") {
		t.Errorf("the bar's number, which is computed in the page, differs from the server's confidence: %q", own)
	}
	if rows := b.text(card + "tbody"); strings.Count(rows, "%") != 4 {
		t.Errorf("want a bar for each of 4 distinct prompts: %q", rows)
	}
	width := get(b, chromedp.Evaluate[float64](`document.querySelector("tr.own .fill").getBoundingClientRect().width / document.querySelector("tr.own .track").getBoundingClientRect().width`))
	if width < 0.477 || width > 0.487 {
		t.Errorf("the bar has %.3f of its track", width)
	}
	views := get(b, chromedp.Evaluate[int](`document.querySelectorAll("#views figure").length`))
	if alt := get(b, chromedp.AttributeValue("#views img", "alt")); views != 2 || !strings.Contains(alt.Value, "openai 224") {
		t.Errorf("%d views, the first %q; two of three models see the same", views, alt.Value)
	}
	b.shoot("light")
	dark := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}}
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, dark); err != nil {
		t.Fatal(err)
	}
	b.shoot("dark")
	b.do(chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile, chromedp.EmulateScale(2)))
	if over := get(b, chromedp.Evaluate[int](`document.documentElement.scrollWidth - document.documentElement.clientWidth`)); over > 0 {
		t.Errorf("on a phone the page is %d pixels too wide", over)
	}
	b.shoot("phone")
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.complaints) > 0 {
		t.Errorf("the browser complains: %q", b.complaints)
	}
}

// TestPageProblems: what is missing or refused is said, and a key helps.
func TestPageProblems(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte("me:secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := api.OpenKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(t.TempDir(), "broken.png")
	if err := os.WriteFile(broken, []byte("\x89PNG broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := openPage(t, newServer(t, api.Config{Keys: keys}))
	problem := func(word string) {
		t.Helper()
		b.do(chromedp.Click("#go"))
		b.until(fmt.Sprintf(`document.getElementById("problem").textContent.includes(%q)`, word))
		if role := get(b, chromedp.AttributeValue("#problem", "role")); role.Value != "alert" {
			t.Errorf("the problem is not read to those who do not see it")
		}
	}
	b.until(`document.getElementById("models").textContent.includes("key")`)
	problem("picture")
	b.do(chromedp.SetUploadFiles("#file", []string{picture(t)}), chromedp.WaitVisible("#preview"))
	problem("prompt")
	b.do(chromedp.SendKeys("#prompt", "a <b>cube</b>"))
	problem("key")
	b.do(chromedp.SendKeys("#key", "secret"), chromedp.Click("#go"), chromedp.WaitVisible("#views figure:nth-child(2) img"))
	if got := b.text("#rewards .card:first-child"); strings.Contains(got, "confidence") {
		t.Errorf("a confidence without contrastive prompts: %q", got)
	}
	b.do(chromedp.SetUploadFiles("#file", []string{broken}))
	b.until(`document.getElementById("filename").textContent === "broken.png"`)
	problem("image")
	if kept := get(b, chromedp.Evaluate[string](`JSON.stringify([localStorage.length, sessionStorage.length, document.cookie])`)); kept != `[0,0,""]` {
		t.Errorf("the page keeps something: %s", kept)
	}
}

// TestDrop drops a file on the page.
func TestDrop(t *testing.T) {
	b := openPage(t, newServer(t, api.Config{}))
	get(b, chromedp.Evaluate[chromedp.Void](`(() => {
		const data = new DataTransfer();
		data.items.add(new File([new Uint8Array([137, 80, 78, 71])], "dropped.png", {type: "image/png"}));
		document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
	})()`))
	b.until(`document.getElementById("filename").textContent === "dropped.png"`)
}
