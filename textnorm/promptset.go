package textnorm

import "slices"

// PromptSet returns the texts that an image is scored against: the prompt, then its contrastive prompts, each once,
// without the prompt itself, in ascending order of their bytes (for valid UTF-8 that is Python's order of code points).
//
// The inputs are not modified. TIA2's lists hold duplicates (32 of the 300 of composition) and once the prompt itself.
func PromptSet(prompt string, contrastive []string) []string {
	rest := slices.Clone(contrastive)
	slices.Sort(rest)
	texts := append(make([]string, 0, len(rest)+1), prompt)
	for i, text := range rest {
		if text != prompt && (i == 0 || text != rest[i-1]) {
			texts = append(texts, text)
		}
	}
	return texts
}
