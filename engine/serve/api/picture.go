package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/engine/serve"
)

// Picture is a picture's file as JSON has it, in a string: a data URL with base64, bare base64, or an http or https URL.
// What is no picture is known when Images is called, so that it fails alone.
type Picture struct {
	data []byte
	url  string
	err  error
}

// UnmarshalJSON reads a picture from a JSON string, without a copy of the text.
func (p *Picture) UnmarshalJSON(raw []byte) error {
	if len(raw) < 2 || raw[0] != '"' {
		return errors.New("expected a picture in a string: a data URL, base64 or an http(s) URL")
	}
	text := raw[1 : len(raw)-1]
	if bytes.IndexByte(raw, '\\') >= 0 {
		var err error
		if text, err = jsontext.AppendUnquote(nil, raw); err != nil {
			return err
		}
	}
	*p = parsePicture(text)
	return nil
}

// ParsePicture reads a picture from its text.
func ParsePicture(text string) Picture { return parsePicture([]byte(text)) }

// parsePicture reads a picture from its text, of which it keeps nothing.
func parsePicture(text []byte) Picture {
	scheme := bytes.IndexByte(text[:min(len(text), 16)], ':') // base64 has none
	switch strings.ToLower(string(text[:max(scheme, 0)])) {
	case "data":
		return parseDataURL(text[scheme+1:])
	case "http", "https":
		return Picture{url: string(text)}
	}
	data, err := decodeBase64(text)
	return Picture{data: data, err: err}
}

// parseDataURL reads what stands after "data:": the type, ";base64", a comma and the data.
func parseDataURL(text []byte) Picture {
	const form = "expected a data URL of the form data:image/TYPE;base64,DATA"
	header, data, ok := bytes.Cut(text, []byte(","))
	if !ok || len(header) > 200 {
		return Picture{err: errors.New(form)}
	}
	parts := strings.Split(strings.ToLower(string(header)), ";")
	if !slices.Contains(parts[1:], "base64") {
		return Picture{err: errors.New(form)}
	}
	switch media := strings.TrimSpace(parts[0]); {
	case media == "", media == "application/octet-stream", strings.HasPrefix(media, "image/"):
	default:
		return Picture{err: fmt.Errorf("a data URL of type %q: expected image/TYPE", media)}
	}
	decoded, err := decodeBase64(data)
	return Picture{data: decoded, err: err}
}

// decodeBase64 decodes base64 of the standard or the URL alphabet, with or without padding, also in lines.
func decodeBase64(text []byte) ([]byte, error) {
	encoding := base64.RawStdEncoding
	if bytes.IndexByte(text, '-') >= 0 || bytes.IndexByte(text, '_') >= 0 {
		encoding = base64.RawURLEncoding
	}
	text = bytes.TrimRight(text, "=\r\n")
	if len(text) == 0 {
		return nil, errors.New("it is empty")
	}
	data := make([]byte, encoding.DecodedLen(len(text)))
	n, err := encoding.Decode(data, text)
	if err != nil {
		return nil, fmt.Errorf("expected base64, a data URL or an http(s) URL: %w", err)
	}
	return data[:n], nil
}

// Images returns the pictures of a request for the core, "images[3]" by name, and fetches those that are URLs. One that is
// none, or could not be fetched, is empty data, which the core reports as a picture that cannot be read; failed says why
// (see MergeErrors). The request as a whole is refused (serve.ErrBadRequest) where it has URLs and Config.AllowFetch is
// not set.
func Images(ctx context.Context, pictures []Picture) (images []engine.Image, failed []serve.ItemError, err error) {
	pictures = slices.Clone(pictures)
	if err := fetchAll(ctx, pictures); err != nil {
		return nil, nil, err
	}
	images = make([]engine.Image, len(pictures))
	for i, p := range pictures {
		images[i] = engine.Image{Name: fmt.Sprintf("images[%d]", i), Data: p.data}
		if p.err != nil {
			images[i].Data = []byte{}
			failed = append(failed, serve.ItemError{Index: i, Message: p.err.Error()})
		}
	}
	return images, failed, nil
}

// MergeErrors joins what Images and what the core say of pictures, sorted, one a picture: what Images says comes first.
func MergeErrors(failed, core []serve.ItemError) []serve.ItemError {
	all := slices.Concat(failed, core)
	slices.SortStableFunc(all, func(a, b serve.ItemError) int { return a.Index - b.Index })
	return slices.CompactFunc(all, func(a, b serve.ItemError) bool { return a.Index == b.Index })
}
