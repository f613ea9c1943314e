package report

import (
	"bytes"
	"strings"
	"testing"
)

func TestWrite(t *testing.T) {
	table := Table{
		Title:   "alignment",
		Header:  []string{"reward", "auroc"},
		Numeric: []bool{false, true},
		Rows:    [][]string{{"clip", "0.5"}, {"a|b, \"c\"", "12.25"}},
	}
	value := map[string]any{"reward": "<clip>"}
	for format, want := range map[string]string{
		"table":    "alignment\nreward    auroc\n-----------------\nclip        0.5\na|b, \"c\"  12.25\n",
		"csv":      "reward,auroc\nclip,0.5\n\"a|b, \"\"c\"\"\",12.25\n",
		"markdown": "**alignment**\n\n| reward | auroc |\n| --- | ---:|\n| clip | 0.5 |\n| a\\|b, \"c\" | 12.25 |\n",
		"json":     "{\n  \"reward\": \"<clip>\"\n}\n",
	} {
		var b bytes.Buffer
		if err := Write(&b, format, value, table); err != nil {
			t.Fatal(err)
		}
		if b.String() != want {
			t.Errorf("%s:\n%q\nwant\n%q", format, b.String(), want)
		}
	}
	var b bytes.Buffer
	if err := Write(&b, "table", nil, table, table); err != nil || strings.Count(b.String(), "\n\n") != 1 {
		t.Errorf("two tables: %q, %v", b.String(), err)
	}
	if err := Write(&b, "xml", nil); err == nil || !strings.Contains(err.Error(), "table, json, csv, markdown") {
		t.Errorf("unknown format: %v", err)
	}
}
