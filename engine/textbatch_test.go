package engine

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tia2-engine/tia2-engine/internal/sharedtest"
)

// testEOT ends made-up texts, clipEOT those of CLIP.
const testEOT, clipEOT = 9, 49407

// trieNodes counts the distinct prefixes of texts.
func trieNodes(texts [][]int32) int {
	seen := map[string]bool{}
	for _, text := range texts {
		for n := range text {
			seen[fmt.Sprint(text[:n+1])] = true
		}
	}
	return len(seen)
}

// textBatch is a batch as the tests see it.
type textBatch struct {
	texts [][]int32
	nodes int
}

// planBatches plans ids, checks what holds for every plan and returns its batches.
func planBatches(t *testing.T, p *textPlan, ids [][]int32, eot int32, budget int) (batches []textBatch) {
	t.Helper()
	p.reset(ids, eot)
	planned := make([]bool, len(ids))
	for from := 0; from < p.distinct(); {
		to := p.end(from, budget)
		if to <= from || to > p.distinct() {
			t.Fatalf("a batch from text %d to %d of %d", from, to, p.distinct())
		}
		b := textBatch{nodes: p.nodes(from, to)}
		for k := from; k < to; k++ {
			b.texts = append(b.texts, p.text(k))
			for _, item := range p.items(k) {
				want := ids[item]
				if end := slices.Index(want, eot); end >= 0 {
					want = want[:end+1]
				}
				if planned[item] || !slices.Equal(want, p.text(k)) {
					t.Fatalf("item %d with ids %v is planned as %v (before: %t)", item, want, p.text(k), planned[item])
				}
				planned[item] = true
			}
		}
		if want := trieNodes(b.texts); b.nodes != want {
			t.Fatalf("%d nodes of texts %d to %d, a trie has %d", b.nodes, from, to, want)
		}
		if b.nodes > budget && to > from+1 {
			t.Fatalf("%d texts with %d nodes, the budget is %d", to-from, b.nodes, budget)
		}
		batches = append(batches, b)
		from = to
	}
	if i := slices.Index(planned, false); i >= 0 {
		t.Fatalf("item %d is in no batch", i)
	}
	return batches
}

// randomTexts draws texts of up to 12 ids of a small vocabulary, so that many share prefixes and some are equal, some
// empty, and some go on after their end.
func randomTexts(rng *rand.Rand, n int) [][]int32 {
	texts := make([][]int32, n)
	for i := range texts {
		texts[i] = make([]int32, rng.IntN(13))
		for j := range texts[i] {
			texts[i][j] = int32(rng.IntN(2 + rng.IntN(testEOT)))
		}
	}
	return texts
}

// Every text is in exactly one batch, no batch is over the budget, nodes are those of a trie, and the batches are about
// as few and as equal as can be.
func TestTextPlan(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var p textPlan
	for range 400 {
		ids := randomTexts(rng, rng.IntN(300))
		budget := 12 + rng.IntN(400)
		batches := planBatches(t, &p, ids, testEOT, budget)
		if budget < 120 || len(batches) == 0 {
			continue // texts are long beside the budget: nothing is promised
		}
		small, total := batches[0].nodes, 0
		for _, b := range batches {
			small, total = min(small, b.nodes), total+b.nodes
		}
		if most := divideUp(total, budget) + 1; len(batches) > most {
			t.Errorf("%d batches for %d nodes and a budget of %d, want at most %d", len(batches), total, budget, most)
		}
		if len(batches) > 1 && small < 2*budget/5 {
			t.Errorf("a batch of %d nodes among %d, the budget is %d", small, len(batches), budget)
		}
	}
}

// The cut goes where nothing is shared but the start, if that is near.
func TestTextPlanCutsBetweenGroups(t *testing.T) {
	var ids [][]int32
	for group, n := range []int{48, 52, 50} { // about a third each
		for i := range n {
			ids = append(ids, []int32{1, int32(10 + group), 2, 3, 4, int32(100 + i), testEOT})
		}
	}
	var p textPlan
	batches := planBatches(t, &p, ids, testEOT, 115) // a group has 105 +- 4 nodes
	if len(batches) != 3 {
		t.Fatalf("%d batches, want 3", len(batches))
	}
	for _, b := range batches {
		if first, last := b.texts[0], b.texts[len(b.texts)-1]; first[1] != last[1] {
			t.Errorf("a batch from %v to %v: it cuts a group", first, last)
		}
	}
}

// The cut does not go where little is shared if that would take a batch more.
func TestTextPlanCutsNoBatchMore(t *testing.T) {
	var ids [][]int32
	for i := range 94 {
		ids = append(ids, []int32{1, int32(10 + i)}) // 95 nodes
	}
	for i := range 102 {
		ids = append(ids, []int32{2, int32(10 + i)}) // 103 nodes
	}
	var p textPlan
	if batches := planBatches(t, &p, ids, testEOT, 100); len(batches) != 2 {
		t.Errorf("%d batches of 198 nodes with a budget of 100, want 2", len(batches))
	}
}

// Two texts, one of which is over the budget: it gets a batch of its own, for C to refuse or to compute.
func TestTextPlanOverBudget(t *testing.T) {
	var p textPlan
	batches := planBatches(t, &p, [][]int32{{1, 2, 3, 4, 5}, {7}, {6, 5, 4, 3, 2, 1}}, testEOT, 3)
	if len(batches) != 3 {
		t.Errorf("batches %v, want each text alone", batches)
	}
	if batches := planBatches(t, &p, nil, testEOT, 3); len(batches) != 0 {
		t.Errorf("batches %v of no texts", batches)
	}
}

// BERT's texts share nothing and are not cut: a batch is as large as its distinct texts.
func TestTextPlanOfBERT(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	var p textPlan
	for range 200 {
		ids := randomTexts(rng, rng.IntN(200))
		p.reset(ids, -1)
		seen := map[string]bool{}
		total := 0
		for _, text := range ids {
			if key := fmt.Sprint(text); !seen[key] {
				seen[key] = true
				total += len(text)
			}
		}
		if p.distinct() != len(seen) || p.distinct() > 0 && p.nodes(0, p.distinct()) != total {
			t.Fatalf("%d distinct texts of %d tokens, want %d of %d", p.distinct(), p.nodes(0, p.distinct()), len(seen), total)
		}
		planned := 0
		budget := 30 + rng.IntN(100)
		for from := 0; from < p.distinct(); {
			to := p.end(from, budget)
			sum := 0
			for k := from; k < to; k++ {
				sum += len(p.text(k))
				for _, item := range p.items(k) {
					planned++
					if !slices.Equal(ids[item], p.text(k)) {
						t.Fatalf("item %d with ids %v is planned as %v", item, ids[item], p.text(k))
					}
				}
			}
			if sum != p.nodes(from, to) || sum > budget && to > from+1 || to <= from {
				t.Fatalf("texts %d to %d have %d tokens, %d nodes; the budget is %d", from, to, sum, p.nodes(from, to), budget)
			}
			from = to
		}
		if planned != len(ids) {
			t.Fatalf("%d of %d items are planned", planned, len(ids))
		}
	}
}

func TestTextBudget(t *testing.T) {
	for _, tt := range []struct {
		batch, context int
		cpu            bool
		want           int
	}{
		{32, 77, true, 2464}, {1, 77, true, 77}, {1000, 77, true, textNodesMax}, {1 << 40, 77, true, textNodesMax},
		{32, 77, false, 512}, {4, 77, false, 308}, {1, 77, false, 77}, {32, 600, false, 600},
		{32, 35, true, 1120}, {32, 512, true, 2464}, {1, 512, true, 512}, {400, 512, true, textNodesMax},
	} {
		if got := textBudget(tt.batch, tt.context, tt.cpu); got != tt.want {
			t.Errorf("batch %d, context %d, CPU %t: %d nodes, want %d", tt.batch, tt.context, tt.cpu, got, tt.want)
		}
	}
}

// tia2Texts are the ids of the distinct texts of the public release of TIA2.
func tia2Texts(t testing.TB) [][]int32 {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(sharedtest.Path(t, "tia2", "prompts"), "*.json"))
	if err != nil || len(files) != 3 {
		t.Fatalf("%d prompt files (%v), want 3", len(files), err)
	}
	tok, err := NewTokenizer("clip")
	if err != nil {
		t.Fatal(err)
	}
	distinct := map[string]bool{}
	var ids [][]int32
	add := func(text string) {
		if distinct[text] {
			return
		}
		distinct[text] = true
		text77, err := tok.Encode(text, 77)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, text77)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var sets map[string][]string
		if err := json.Unmarshal(data, &sets); err != nil {
			t.Fatal(err)
		}
		for prompt, contrastive := range sets {
			add(prompt)
			for _, text := range contrastive {
				add(text)
			}
		}
	}
	return ids
}

// TIA2's 7,830 texts are 23,888 nodes as one tree, and hardly more in batches.
func TestTextPlanOfTIA2(t *testing.T) {
	ids := tia2Texts(t)
	if len(ids) != 7830 {
		t.Fatalf("%d distinct texts, want 7830", len(ids))
	}
	const whole = 23888
	var p textPlan
	p.reset(ids, clipEOT)
	if got := p.nodes(0, p.distinct()); got != whole {
		t.Errorf("%d nodes in one tree, want %d", got, whole)
	}
	for _, tt := range []struct {
		budget, most int // nodes a batch, batches
		limit        float64
	}{{32 * 77, 11, 1.02}, {8 * 77, 45, 1.03}, {512, 55, 1.03}, {77, 420, 1.20}} {
		batches := planBatches(t, &p, ids, clipEOT, tt.budget)
		total, small := 0, tt.budget
		for _, b := range batches {
			total, small = total+b.nodes, min(small, b.nodes)
		}
		t.Logf("budget %d: %d batches, the smallest of %d nodes; %d nodes, %.2f %% more than one tree",
			tt.budget, len(batches), small, total, 100*(float64(total)/whole-1))
		if float64(total) > tt.limit*whole || len(batches) > tt.most {
			t.Errorf("budget %d: %d nodes in %d batches, want at most %.0f in %d", tt.budget, total, len(batches), tt.limit*whole, tt.most)
		}
	}
}

// BenchmarkTextPlan plans TIA2's 7,830 texts, all in one call.
func BenchmarkTextPlan(b *testing.B) {
	ids := tia2Texts(b)
	var p textPlan
	for b.Loop() {
		p.reset(ids, clipEOT)
		for from := 0; from < p.distinct(); {
			from = p.end(from, 32*77)
		}
	}
}
