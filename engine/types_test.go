package engine_test

import (
	"testing"

	"github.com/tia2-engine/tia2-engine/engine"
)

// Every distinct prefix is paid for once, every distinct text once for its pooled row.
func TestTextFLOPs(t *testing.T) {
	info := engine.Info{TextFLOPsPerToken: 100, TextFLOPsAttention: 2, TextFLOPsPooled: 7}
	tests := []struct {
		name  string
		texts [][]int32
		want  float64
	}{
		{"none", nil, 0},
		{"one", [][]int32{{1, 5, 9}}, 3*100 + 3*3*2 + 7},
		{"twice the same", [][]int32{{1, 5, 9}, {1, 5, 9}}, 3*100 + 3*3*2 + 7},
		{"nothing shared", [][]int32{{1, 5}, {2, 5}}, 2 * (2*100 + 2*2*2 + 7)},
		{"two tokens shared", [][]int32{{1, 5, 9}, {1, 5, 8}}, 4*100 + (1+3+5+5)*2 + 2*7},
		{"not in order, one a prefix", [][]int32{{1, 5, 9}, {0}, {1, 5}}, 4*100 + (1+3+5+1)*2 + 3*7},
	}
	bert := info
	bert.Family = "blip"
	if got, want := bert.TextFLOPs([][]int32{{1, 5, 9}, {1, 5, 8}, {1, 5, 9}}), 2*(3*100.+3*3*2+7); got != want {
		t.Errorf("BERT's texts share nothing: %g FLOPs, want %g", got, want)
	}
	for _, tt := range tests {
		if got := info.TextFLOPs(tt.texts); got != tt.want {
			t.Errorf("%s: %g FLOPs, want %g", tt.name, got, tt.want)
		}
	}
}
