// Package tia2 reads data sets in the layout of the TIA2 release (github.com/kykim0/TextNorm), and reads and writes
// scores.jsonl, the file of rewards that any system can fill for evaluation.
//
// A release folder holds, for each set NAME:
//
//	prompts/prompt_set_NAME.json              {PROMPT: [CONTRASTIVE PROMPT, ...], ...}
//	human_annotations/human_labels_NAME.json  {IMAGE: {"image": IMAGE, "caption": PROMPT, "human_labels": [1, 0, 1]}, ...}
//	images/NAME/IMAGE                         the pictures; or in another folder, see Options.Images
//
// The three published sets have 100, 300 and 150 prompts with 50 images and three labels each. Their captions and prompt
// keys agree to the letter, and a prompt is known by that spelling everywhere. Prompts and images keep the order of the
// annotations. The pictures are needed to score a set, not to evaluate scores that exist.
//
// Whatever does not fit together (a missing picture, a prompt without images) is listed in [Problems] and ends nothing;
// a file that cannot be read, or that means something else than the layout says, is an error with its file, line and
// column.
package tia2
