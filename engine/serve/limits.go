package serve

import (
	"crypto/sha256"
	"fmt"
	"unicode/utf8"

	"github.com/tia2-engine/tia2-engine/engine"
)

// takeImages checks the pictures of a request against the limits and returns their digests. A picture that is empty or has
// too many bytes fails alone; one of too many pixels does so when the engine reads it, before it is decoded.
func (s *Server) takeImages(r *request, imgs []engine.Image) ([]digest, error) {
	if len(imgs) > s.opt.MaxImages {
		return nil, ofKind(ErrTooLarge, "%d images: expected at most %d", len(imgs), s.opt.MaxImages)
	}
	digests := make([]digest, len(imgs))
	for i, img := range imgs {
		if err := r.ctx.Err(); err != nil {
			return nil, err
		}
		switch n := int64(len(img.Data)); {
		case n == 0 && img.Path != "":
			return nil, ofKind(ErrBadRequest, "image %d has a path and no data: the server reads no files", i)
		case n == 0:
			r.fail(i, "the picture is empty")
			continue
		case n > s.opt.MaxImageBytes:
			r.fail(i, fmt.Sprintf("the picture has %d bytes: expected at most %d", n, s.opt.MaxImageBytes))
			continue
		}
		digests[i] = sha256.Sum256(img.Data)
		r.bytes += int64(len(img.Data))
	}
	return digests, nil
}

// takeTexts checks the texts of a request against the limits.
func (s *Server) takeTexts(r *request, txts []string) error {
	if len(txts) > s.opt.MaxTexts {
		return ofKind(ErrTooLarge, "%d texts: expected at most %d", len(txts), s.opt.MaxTexts)
	}
	for i, text := range txts {
		if len(text) > s.opt.MaxTextBytes {
			return ofKind(ErrTooLarge, "text %d has %d bytes: expected at most %d", i, len(text), s.opt.MaxTextBytes)
		}
		if !utf8.ValidString(text) {
			return ofKind(ErrBadRequest, "text %d: expected UTF-8", i)
		}
		r.bytes += int64(len(text))
	}
	return nil
}
