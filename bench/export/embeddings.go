package export

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"

	"github.com/tia2-engine/tia2-engine/internal/atomicfile"
)

// Rows are named vectors of one width: f32 [len(Names), Dim], row-major. A row of NaN stands for an item that failed.
type Rows struct {
	Names []string
	Dim   int
	Data  []float32
}

func (r Rows) row(i int) []float32 { return r.Data[i*r.Dim : (i+1)*r.Dim] }

// Embeddings are what one run of embed made. Either part may be nil.
type Embeddings struct {
	Images, Texts *Rows
	LogitScale    float32
}

// EmbeddingExtensions are the files that WriteEmbeddings can write.
var EmbeddingExtensions = []string{".npz", ".npy", ".jsonl", ".parquet"}

// ScoreExtensions are the files that WriteScores can write.
var ScoreExtensions = []string{".npz", ".json"}

// CheckExtension returns an error that names the extensions allowed, unless path has one of them.
func CheckExtension(path string, allowed []string) error {
	if slices.Contains(allowed, strings.ToLower(filepath.Ext(path))) {
		return nil
	}
	return fmt.Errorf("%s: expected a file name that ends in one of %s", path, strings.Join(allowed, ", "))
}

// WriteEmbeddings writes e to path, as its extension says:
//
//	.npz      image_embeds f32 [N, D], text_embeds f32 [M, D], logit_scale f32, image_names and text_names; failed rows are NaN
//	.npy      the one part that e has, f32 [N, D]; failed rows are NaN
//	.jsonl    {"kind":"image","name":…,"embedding":[…]} a line, failed items left out
//	.parquet  columns kind, name, embedding (list of float), failed items left out
func WriteEmbeddings(path string, e Embeddings) error {
	if err := CheckExtension(path, EmbeddingExtensions); err != nil {
		return err
	}
	switch strings.ToLower(filepath.Ext(path)) {
	case ".npz":
		var arrays []Array
		for _, p := range e.parts() {
			arrays = append(arrays,
				Array{Name: p.kind + "_embeds", Shape: []int{len(p.rows.Names), p.rows.Dim}, F32: p.rows.Data},
				Array{Name: p.kind + "_names", Shape: []int{len(p.rows.Names)}, Strings: nonNil(p.rows.Names)})
		}
		return WriteNPZ(path, append(arrays, Array{Name: "logit_scale", F32: []float32{e.LogitScale}}))
	case ".npy":
		parts := e.parts()
		if len(parts) != 1 {
			return fmt.Errorf("%s: an .npy file holds one array: expected images or texts, not both (use .npz)", path)
		}
		return WriteNPY(path, Array{Shape: []int{len(parts[0].rows.Names), parts[0].rows.Dim}, F32: parts[0].rows.Data})
	case ".jsonl":
		return writeFile(path, e.writeJSONL)
	}
	return writeFile(path, e.writeParquet)
}

type part struct {
	kind string
	rows *Rows
}

func (e Embeddings) parts() []part {
	var parts []part
	if e.Images != nil {
		parts = append(parts, part{"image", e.Images})
	}
	if e.Texts != nil {
		parts = append(parts, part{"text", e.Texts})
	}
	return parts
}

// embedding is one row of the .jsonl and .parquet files.
type embedding struct {
	Kind      string    `json:"kind" parquet:"kind,dict"`
	Name      string    `json:"name" parquet:"name"`
	Embedding []float32 `json:"embedding" parquet:"embedding,list"`
}

// each calls f with every item that did not fail.
func (e Embeddings) each(f func(embedding) error) error {
	for _, p := range e.parts() {
		for i, name := range p.rows.Names {
			row := p.rows.row(i)
			if slices.ContainsFunc(row, isNaN) {
				continue
			}
			if err := f(embedding{Kind: p.kind, Name: name, Embedding: row}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e Embeddings) writeJSONL(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return e.each(func(row embedding) error { return enc.Encode(row) })
}

func (e Embeddings) writeParquet(w io.Writer) error {
	pw := parquet.NewGenericWriter[embedding](w, parquet.Compression(&parquet.Zstd), parquet.MaxRowsPerRowGroup(1<<16))
	if err := e.each(func(row embedding) error {
		_, err := pw.Write([]embedding{row})
		return err
	}); err != nil {
		return err
	}
	return pw.Close()
}

// Scores are rewards of all pairs: Rewards[name] is f32 [len(Images), len(Texts)], a row of NaN where an image failed.
type Scores struct {
	Images, Texts []string
	Names         []string // of the rewards, in order
	Rewards       [][]float32
}

// WriteScores writes s to path: an .npz with one array f32 [N, M] per reward, and image_names and text_names; or a .json
// as WriteScoresJSON has it.
func WriteScores(path string, s Scores) error {
	if err := CheckExtension(path, ScoreExtensions); err != nil {
		return err
	}
	if strings.ToLower(filepath.Ext(path)) == ".json" {
		return writeFile(path, func(w io.Writer) error { return WriteScoresJSON(w, s) })
	}
	var arrays []Array
	for k, name := range s.Names {
		arrays = append(arrays, Array{Name: name, Shape: []int{len(s.Images), len(s.Texts)}, F32: s.Rewards[k]})
	}
	arrays = append(arrays,
		Array{Name: "image_names", Shape: []int{len(s.Images)}, Strings: nonNil(s.Images)},
		Array{Name: "text_names", Shape: []int{len(s.Texts)}, Strings: nonNil(s.Texts)})
	return WriteNPZ(path, arrays)
}

// WriteScoresJSON writes {"images":[…],"texts":[…],"rewards":{NAME:[[…],…]}}, null for the row of a failed image.
func WriteScoresJSON(w io.Writer, s Scores) error {
	rewards := map[string][][]float32{}
	for k, name := range s.Names {
		rows := make([][]float32, len(s.Images))
		for i := range rows {
			row := s.Rewards[k][i*len(s.Texts) : (i+1)*len(s.Texts)]
			if !slices.ContainsFunc(row, isNaN) {
				rows[i] = row
			}
		}
		rewards[name] = rows
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(struct {
		Images  []string               `json:"images"`
		Texts   []string               `json:"texts"`
		Rewards map[string][][]float32 `json:"rewards"`
	}{s.Images, s.Texts, rewards})
}

// writeFile writes a file with write, buffered and under its final name only when complete.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := atomicfile.Create(path)
	if err != nil {
		return err
	}
	defer f.Abort()
	buf := bufio.NewWriterSize(f, 1<<18)
	if err := write(buf); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := buf.Flush(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return f.Commit()
}

func isNaN(v float32) bool { return math.IsNaN(float64(v)) }

func nonNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
