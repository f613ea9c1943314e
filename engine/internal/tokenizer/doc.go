// Package tokenizer turns prompts into the token ids that the reference tokenizers give, id for id.
//
//	clip          open_clip 3.3 SimpleTokenizer: ftfy, HTML entities, spaces, str.lower, byte-pair encoding;
//	              <start_of_text> and <end_of_text> in the text are the special ids
//	openai        openai/CLIP: the same, with <|startoftext|> and <|endoftext|>
//	clip-hf       Hugging Face's fast CLIPTokenizer: NFC, spaces, letterwise lower case, the same encoding and the
//	              specials of openai
//	bert          Hugging Face's fast BertTokenizer, uncased: word pieces; [CLS], [SEP], [UNK], [PAD] and [MASK]
//	blip-caption  LAVIS's blip_caption processor, then bert
//
// The first three share one vocabulary, CLIP's merges or a checkpoint's own; the last two share the word pieces.
// tables.go holds what the references take for letters, numbers and so on, made by make_tables.py.
package tokenizer
