package serve

import (
	"bytes"
	"crypto/sha256"
	"image"
	_ "image/gif" // the formats whose size is read before the picture is queued
	_ "image/jpeg"
	_ "image/png"
	"unicode/utf8"

	_ "golang.org/x/image/bmp"
	_ "golang.org/x/image/webp"

	"github.com/tia2-engine/tia2-engine/engine"
)

// takeImages checks the pictures of a request against the limits and returns their digests. A picture that is empty fails
// alone.
func (s *Server) takeImages(r *request, imgs []engine.Image) ([]digest, error) {
	if len(imgs) > s.opt.MaxImages {
		return nil, ofKind(ErrTooLarge, "%d images: expected at most %d", len(imgs), s.opt.MaxImages)
	}
	digests := make([]digest, len(imgs))
	for i, img := range imgs {
		if err := r.ctx.Err(); err != nil {
			return nil, err
		}
		if len(img.Data) == 0 {
			if img.Path != "" {
				return nil, ofKind(ErrBadRequest, "image %d has a path and no data: the server reads no files", i)
			}
			r.fail(i, "the picture is empty")
			continue
		}
		if err := s.checkImage(i, img.Data); err != nil {
			return nil, err
		}
		digests[i] = sha256.Sum256(img.Data)
		r.bytes += int64(len(img.Data))
	}
	return digests, nil
}

// checkImage refuses a picture that is over a limit. One whose size cannot be read here is left to the decoder, which
// has a limit of its own.
func (s *Server) checkImage(i int, data []byte) error {
	if n := int64(len(data)); n > s.opt.MaxImageBytes {
		return ofKind(ErrTooLarge, "image %d has %d bytes: expected at most %d", i, n, s.opt.MaxImageBytes)
	}
	c, _, err := image.DecodeConfig(bytes.NewReader(data))
	if err == nil && int64(c.Width)*int64(c.Height) > s.opt.MaxImagePixels {
		return ofKind(ErrTooLarge, "image %d has %d x %d pixels: expected at most %d", i, c.Width, c.Height, s.opt.MaxImagePixels)
	}
	return nil
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
