package protocol

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/tia2-engine/tia2-engine/engine"
)

// maxItems bounds the pictures or texts of a request before the server's own limits do.
const maxItems = 1 << 16

// decodeBase64 decodes standard base64, with or without padding and line ends.
func decodeBase64(s string) ([]byte, error) {
	s = strings.NewReplacer("\n", "", "\r", "").Replace(s)
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil {
		return nil, badRequest("not base64: %w", err)
	}
	return b, nil
}

// pictureText decodes a picture that is written as text: a data URL or bare base64. Other URLs are refused.
func pictureText(s string) ([]byte, error) {
	if data, ok := strings.CutPrefix(s, "data:"); ok {
		header, content, ok := strings.Cut(data, ",")
		if !ok || !strings.HasSuffix(header, ";base64") {
			return nil, badRequest("a data URL is not of the form data:TYPE;base64,DATA")
		}
		return decodeBase64(content)
	}
	if scheme, _, ok := strings.Cut(s[:min(len(s), 16)], "://"); ok {
		return nil, badRequest("%s URLs are not fetched: send the picture itself, as a data URL", scheme)
	}
	return decodeBase64(s)
}

// pictureFile returns a picture's file of bytes that are one, or its text (see pictureText).
func pictureFile(b []byte) ([]byte, error) {
	if isPicture(b) || !isText(b) {
		return b, nil
	}
	return pictureText(string(b))
}

// isPicture is whether b begins like a file of a format that the engine reads.
func isPicture(b []byte) bool {
	for _, magic := range []string{"\xff\xd8\xff", "\x89PNG", "GIF87a", "GIF89a", "BM", "RIFF"} {
		if bytes.HasPrefix(b, []byte(magic)) {
			return true
		}
	}
	return false
}

// isText is whether b looks like base64 or a URL: the first bytes are printable.
func isText(b []byte) bool {
	for _, c := range b[:min(len(b), 64)] {
		if (c < ' ' || c > '~') && c != '\n' && c != '\r' {
			return false
		}
	}
	return len(b) > 0
}

// maxSide is the longest side of pixels that are sent as an array.
const maxSide = 1 << 15

// bitmap writes pixels, u8 [height, width, channels] with 1 (grey), 3 (RGB) or 4 (RGB and alpha, which is dropped)
// channels, as a BMP file of 24 bits, which the engine reads without loss.
func bitmap(pixels []byte, height, width, channels int) ([]byte, error) {
	if channels != 1 && channels != 3 && channels != 4 {
		return nil, badRequest("an array of pixels with %d channels: expected 1, 3 or 4, as the last dimension", channels)
	}
	if height < 1 || width < 1 || height > maxSide || width > maxSide {
		return nil, badRequest("an array of %d x %d pixels: expected sides from 1 to %d", width, height, maxSide)
	}
	if len(pixels) != height*width*channels {
		return nil, badRequest("%d bytes for %d x %d pixels of %d channels", len(pixels), width, height, channels)
	}
	const header = 14 + 40
	stride := (3*width + 3) &^ 3
	if size := int64(header) + int64(stride)*int64(height); size > math.MaxInt32 {
		return nil, badRequest("an array of %d x %d pixels is too large", width, height)
	}
	out := make([]byte, header+stride*height)
	copy(out, "BM")
	le := binary.LittleEndian
	le.PutUint32(out[2:], uint32(len(out)))
	le.PutUint32(out[10:], header)
	le.PutUint32(out[14:], 40)
	le.PutUint32(out[18:], uint32(width))
	le.PutUint32(out[22:], uint32(height)) // positive: the last row comes first
	le.PutUint16(out[26:], 1)              // planes
	le.PutUint16(out[28:], 24)             // bits a pixel
	le.PutUint32(out[34:], uint32(stride*height))
	red, green, blue := 0, min(1, channels-1), min(2, channels-1)
	for y := range height {
		in, row := pixels[y*width*channels:], out[header+(height-1-y)*stride:]
		for x := range width {
			p := in[x*channels : x*channels+channels]
			row[3*x], row[3*x+1], row[3*x+2] = p[blue], p[green], p[red]
		}
	}
	return out, nil
}

// pixelImages cuts pixels, u8 [N, H, W, C], into pictures.
func pixelImages[T int | int64](pixels []byte, shape []T) ([]engine.Image, error) {
	if len(shape) != 4 {
		return nil, badRequest("pixels of %d dimensions: expected [N, H, W, C]", len(shape))
	}
	n, size := int(shape[0]), 0
	if n > 0 {
		size = len(pixels) / n
	}
	if n > maxItems {
		return nil, badRequest("%d pictures: expected at most %d", n, maxItems)
	}
	images := make([]engine.Image, n)
	for i := range images {
		data, err := bitmap(pixels[i*size:(i+1)*size], int(shape[1]), int(shape[2]), int(shape[3]))
		if err != nil {
			return nil, err
		}
		images[i] = engine.Image{Name: fmt.Sprintf("images[%d]", i), Data: data}
	}
	return images, nil
}
