package convert

import "github.com/tia2-engine/tia2-engine/engine/internal/gguf"

// Tokenizer kinds.
const (
	tokenizerOpenCLIP = "open_clip"
	tokenizerHFCLIP   = "hf_clip"
	tokenizerBERT     = "bert"
)

// embedded is the source of a vocabulary that the checkpoint does not hold.
const embedded = "embedded"

// Tokenizer describes how texts become ids. CLIP's are 256 bytes, 256 bytes at the end of a word, the merges, then start
// and end of text; BERT's are its words in order, after which BLIP has [DEC] and [ENC].
type Tokenizer struct {
	Kind      string   `json:"kind"`
	Merges    []string `json:"-"` // CLIP: "a b", in order
	Words     []string `json:"-"` // BERT
	VocabSize int      `json:"vocab_size"`
	SOT       int      `json:"sot,omitempty"`
	EOT       int      `json:"eot,omitempty"`
	MaxLength int      `json:"max_length,omitempty"` // where the reference cuts texts, special tokens included; 0: nowhere
	Cleaning  string   `json:"cleaning,omitempty"`   // what the reference does to texts first: "blip_caption"
	ENC       int      `json:"enc,omitempty"`        // the id of [ENC]
	Source    string   `json:"source"`               // the file that the merges or words come from, or "embedded"
}

func (t *Tokenizer) metadata() []gguf.KV {
	if t.Kind == tokenizerBERT {
		return t.bertMetadata()
	}
	return []gguf.KV{
		{Key: "tokenizer.kind", Value: t.Kind},
		{Key: "tokenizer.merges", Value: t.Merges},
		{Key: "tokenizer.vocab_size", Value: uint32(t.VocabSize)},
		{Key: "tokenizer.sot", Value: uint32(t.SOT)},
		{Key: "tokenizer.eot", Value: uint32(t.EOT)},
	}
}

func (t *Tokenizer) bertMetadata() []gguf.KV {
	kvs := []gguf.KV{
		{Key: "tokenizer.kind", Value: t.Kind},
		{Key: "tokenizer.words", Value: t.Words},
		{Key: "tokenizer.vocab_size", Value: uint32(t.VocabSize)},
		{Key: "tokenizer.max_length", Value: uint32(t.MaxLength)},
		{Key: "tokenizer.cleaning", Value: t.Cleaning},
	}
	if t.ENC != 0 {
		kvs = append(kvs, gguf.KV{Key: "tokenizer.enc", Value: uint32(t.ENC)})
	}
	return kvs
}
