package vocab

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
)

// TestLists checks the lists against the SHA-256 of README.md, and their ends against the originals.
func TestLists(t *testing.T) {
	for _, c := range []struct {
		name        string
		list        []string
		count       int
		first, last string
		sha256      string
	}{
		{"merges", CLIPMerges(), CLIPMergeCount, "i n", "jeky ll</w>", "d308b7377a8ceaa9707a21614fe8c831b9196e197b7aeb69833359362907af02"},
		{"word pieces", BERTWordPieces(), BERTWordPieceCount, "[PAD]", "##～", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"},
	} {
		if len(c.list) != c.count || c.list[0] != c.first || c.list[len(c.list)-1] != c.last {
			t.Errorf("%s: %d from %q to %q, expected %d from %q to %q",
				c.name, len(c.list), c.list[0], c.list[len(c.list)-1], c.count, c.first, c.last)
		}
		text := strings.Join(c.list, "\n") + "\n"
		if got := fmt.Sprintf("%x", sha256.Sum256([]byte(text))); got != c.sha256 {
			t.Errorf("%s: SHA-256 %s, expected %s", c.name, got, c.sha256)
		}
	}
}

func TestDamagedList(t *testing.T) {
	for name, packed := range map[string][]byte{"cut": clipMerges[:1000], "empty": nil, "no zstd": []byte("text")} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic, expected one")
				}
			}()
			unpack("list", packed, CLIPMergeCount)
		})
	}
}
