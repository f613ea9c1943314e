package tokenizer

import (
	"strings"

	"github.com/tia2-engine/tia2-engine/engine/internal/pytext"
)

// captionWordsMax is the number of words that a caption keeps.
const captionWordsMax = 50

// cleanCaption makes a caption of text: lower case, some punctuation blanked, spaces collapsed, at most 50 words.
//
// Source: LAVIS lavis/processors/blip_processors.py, BlipCaptionProcessor.pre_caption, without a prompt.
func cleanCaption(text string) string {
	text = strings.Map(func(r rune) rune {
		if strings.ContainsRune(`.!"()*#:;~`, r) {
			return ' '
		}
		return r
	}, pytext.Lower(text))
	text = collapseSpaces(text)
	text = strings.Trim(strings.TrimRight(text, "\n"), " ")
	words := 0
	for i := range len(text) {
		if text[i] == ' ' {
			words++
			if words == captionWordsMax {
				return text[:i]
			}
		}
	}
	return text
}

// collapseSpaces makes one space of two or more space characters; a single one stays what it is.
func collapseSpaces(text string) string {
	var out strings.Builder
	run, single := 0, rune(0)
	flush := func() {
		switch {
		case run == 1:
			out.WriteRune(single)
		case run > 1:
			out.WriteByte(' ')
		}
		run = 0
	}
	for _, r := range text {
		if pytext.IsSpace(r) {
			run++
			single = r
			continue
		}
		flush()
		out.WriteRune(r)
	}
	flush()
	return out.String()
}
