package api

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/png"
	"math"
	"net/http"
	"slices"
	"strconv"

	"github.com/tia2-engine/tia2-engine/engine"
)

// decodeAtOnce is how many pictures /v1/preprocess decodes at one time: it is for people who look at single pictures, and
// the models need the cores.
const decodeAtOnce = 2

// preprocessRequest is the body of POST /v1/preprocess.
type preprocessRequest struct {
	Image Picture `json:"image"`
	Model string  `json:"model"` // its name, or a reward; "": the first model that sees pictures
}

// preprocess answers with what a model sees of a picture, as PNG.
func (h *handler) preprocess(w http.ResponseWriter, r *http.Request) {
	body, err := h.seen(w, r)
	if err != nil {
		WriteError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "image/png")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body)
}

// seen returns the PNG.
func (h *handler) seen(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	var in preprocessRequest
	if err := readJSON(w, r, &in); err != nil {
		return nil, err
	}
	info, err := h.modelThatSees(in.Model)
	if err != nil {
		return nil, err
	}
	images, failed, err := Images(r.Context(), []Picture{in.Image})
	if err != nil {
		return nil, err
	}
	if len(failed) > 0 {
		return nil, badRequest("image: %s", failed[0].Message)
	}
	select {
	case h.decoding <- struct{}{}:
		defer func() { <-h.decoding }()
	case <-r.Context().Done():
		return nil, context.Cause(r.Context())
	}
	pixels, err := h.pixels(info, images[0].Data)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&out, pixels)
	return out.Bytes(), err
}

// modelThatSees returns the model of that name or reward that has an image tower.
func (h *handler) modelThatSees(name string) (engine.Info, error) {
	for _, info := range h.s.Models() {
		if seesPictures(info) && (name == "" || name == info.Name || slices.Contains(info.Rewards, name)) {
			return info, nil
		}
	}
	if name == "" {
		return engine.Info{}, ofKind(errUnknownModel, "no model here sees pictures")
	}
	return engine.Info{}, ofKind(errUnknownModel, "model: no model or reward %.100q that sees pictures; GET /v1/models lists them", name)
}

// pixels returns what a model sees of an encoded picture: the very bytes, and of hpsv2, whose pixels are no whole numbers,
// the nearest ones.
func (h *handler) pixels(info engine.Info, data []byte) (image.Image, error) {
	p := engine.Preprocess{Pipeline: info.Pipeline, Size: info.ImageSize, Mean: info.Mean, Std: info.Std,
		Limits: engine.ImageLimits{PixelsMax: h.cfg.MaxImagePixels, BytesMax: uint64(h.cfg.MaxBodyBytes)}}
	side := info.ImageSize
	out := image.NewNRGBA(image.Rect(0, 0, side, side))
	if info.Pipeline == "hpsv2" {
		values, err := p.F32(data)
		if err != nil {
			return nil, pictureError(err)
		}
		fillPixels(out, func(i, c int) uint8 {
			v := float64(values[c*side*side+i]*info.Std[c]+info.Mean[c]) * 255
			return uint8(math.RoundToEven(min(max(v, 0), 255)))
		})
		return out, nil
	}
	values, err := p.U8(data)
	if err != nil {
		return nil, pictureError(err)
	}
	fillPixels(out, func(i, c int) uint8 { return values[3*i+c] })
	return out, nil
}

// fillPixels sets the pixels of an opaque picture: value gives channel c of pixel i, row after row.
func fillPixels(out *image.NRGBA, value func(i, c int) uint8) {
	for i := range len(out.Pix) / 4 {
		for c := range 3 {
			out.Pix[4*i+c] = value(i, c)
		}
		out.Pix[4*i+3] = 255
	}
}

// pictureError makes what is wrong with a picture the client's error.
func pictureError(err error) error {
	if errors.Is(err, engine.ErrImage) || errors.Is(err, engine.ErrInvalid) {
		return badRequest("image: %w", err)
	}
	return err
}
