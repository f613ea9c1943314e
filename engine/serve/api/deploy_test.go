package api

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tia2-engine/tia2-engine/engine"
)

// TestDashboard: the Grafana dashboard asks for metrics and labels that there are, and every metric of this program is on it.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("../deploy/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			ID      int `json:"id"`
			Title   string
			Targets []struct{ Expr string }
			GridPos struct{ X, Y, W, H int }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	labels, ids := metricLabels(t), map[int]bool{}
	asked := map[string]bool{}
	selector := regexp.MustCompile(`([a-z_0-9]+)\{([^}]*)\}`)
	by := regexp.MustCompile(`by \(([^)]*)\)`)
	for _, panel := range dashboard.Panels {
		if ids[panel.ID] || panel.GridPos.X+panel.GridPos.W > 24 {
			t.Errorf("panel %q: its number is another's, or it is out of the grid", panel.Title)
		}
		ids[panel.ID] = true
		for _, target := range panel.Targets {
			for _, m := range selector.FindAllStringSubmatch(target.Expr, -1) {
				name := baseName(m[1], labels)
				asked[name] = true
				has, ok := labels[name]
				if !ok {
					t.Errorf("panel %q: there is no metric %s", panel.Title, m[1])
				}
				used := m[2]
				for _, group := range by.FindAllStringSubmatch(target.Expr, -1) {
					used += "," + group[1]
				}
				for _, label := range strings.Split(used, ",") {
					label, _, _ = strings.Cut(strings.TrimSpace(label), "=")
					label = strings.TrimSuffix(label, "!")
					if label != "instance" && label != "le" && !has[label] {
						t.Errorf("panel %q: %s has no label %q", panel.Title, name, label)
					}
				}
			}
		}
	}
	for name := range labels {
		if strings.HasPrefix(name, "tia2_") && !asked[name] {
			t.Errorf("%s is on no panel", name)
		}
	}
}

// metricLabels returns the labels of every metric by its name.
func metricLabels(t testing.TB) map[string]map[string]bool {
	t.Helper()
	m := NewMetrics()
	m.Watch(newCore(t, &fake{}, nil))
	m.WatchCache(func() map[string]engine.EmbeddingCacheStats { return nil })
	descs := make(chan *prometheus.Desc, 1000)
	m.registry.Describe(descs)
	close(descs)
	out := map[string]map[string]bool{}
	form := regexp.MustCompile(`^Desc\{fqName: "([^"]+)",.*constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)
	for d := range descs {
		parts := form.FindStringSubmatch(d.String())
		if parts == nil {
			t.Fatalf("a description of another form: %s", d)
		}
		out[parts[1]] = map[string]bool{}
		for _, label := range strings.Split(parts[3], ",") {
			out[parts[1]][label] = true
		}
	}
	return out
}

// baseName returns the name of a metric whose histogram a sample belongs to.
func baseName(sample string, metrics map[string]map[string]bool) string {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(sample, suffix); ok && metrics[base] != nil {
			return base
		}
	}
	return sample
}
