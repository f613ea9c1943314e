package engine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tia2-engine/tia2-engine/cgo"
)

const (
	// picturesPerThread is how many pictures a window has at least for each thread. The threads take them one by one,
	// so all are busy but for the time of the last picture: with four each, at most a fifth of the time of one thread.
	picturesPerThread = 4
	// readAheadBytes is how much of files is read before the pictures are decoded; a larger file is read alone.
	readAheadBytes = 64 << 20
)

// imageWindow is a run of pictures that are prepared together and then encoded, as one batch or several. Its memory is
// kept for another window.
type imageWindow struct {
	first  int // images[0] is this picture of the call
	images []Image
	data   [][]byte  // [n] files, once they are read and until they are decoded
	errs   []error   // [n] why a picture cannot be encoded
	u8     []uint8   // [n, S, S, 3] pixels; those of the good pictures are moved to the front
	f32    []float32 // or [n, 3, S, S]
	good   []int     // indices of the pictures that can be encoded, rising
	values int       // of one picture
}

var imageWindows = sync.Pool{New: func() any { return new(imageWindow) }}

// reset makes w a window of the given pictures, none of them read.
func (w *imageWindow) reset(p Preprocess, images []Image, first int) {
	n := len(images)
	w.first, w.images, w.values, w.good = first, images, p.values(), w.good[:0]
	w.data, w.errs = slices.Grow(w.data[:0], n)[:n], slices.Grow(w.errs[:0], n)[:n]
	clear(w.data)
	clear(w.errs)
	w.u8, w.f32 = w.u8[:0], w.f32[:0]
	if p.isFloat() {
		w.f32 = slices.Grow(w.f32, n*w.values)[:n*w.values]
	} else {
		w.u8 = slices.Grow(w.u8, n*w.values)[:n*w.values]
	}
}

// release forgets what belongs to the caller and keeps w for another window.
func (w *imageWindow) release() {
	clear(w.data)
	clear(w.errs)
	w.images = nil
	imageWindows.Put(w)
}

// read reads the files of pictures from and on, and returns the first that was left unread: there is none, or so many
// bytes were read that decoding should come first.
func (w *imageWindow) read(ctx context.Context, limits ImageLimits, threads, from int) (to int) {
	var total atomic.Int64
	return parallel(ctx, threads, from, len(w.images), func(i int) (more bool) {
		w.data[i], w.errs[i] = w.images[i].read(limits)
		return w.images[i].Data != nil || total.Add(int64(len(w.data[i]))) < readAheadBytes
	})
}

// decode makes the pixels of pictures from .. to-1, reading the files that have not been.
func (w *imageWindow) decode(ctx context.Context, spec cgo.ImageSpec, threads, from, to int) {
	parallel(ctx, threads, from, to, func(i int) (more bool) {
		if w.data[i] == nil && w.errs[i] == nil {
			w.data[i], w.errs[i] = w.images[i].read(ImageLimits(spec.Limits))
		}
		if w.errs[i] == nil && len(w.f32) > 0 {
			w.errs[i] = cgo.PreprocessF32(w.f32[i*w.values:(i+1)*w.values], w.data[i], spec)
		} else if w.errs[i] == nil {
			w.errs[i] = cgo.PreprocessU8(w.u8[i*w.values:(i+1)*w.values], w.data[i], spec)
		}
		w.data[i] = nil
		return true
	})
}

// pack moves the pixels of the good pictures to the front, so that a bad one leaves no hole.
func (w *imageWindow) pack() {
	for i, err := range w.errs {
		if err != nil {
			continue
		}
		if k := len(w.good); k != i {
			if len(w.f32) > 0 {
				copy(w.f32[k*w.values:(k+1)*w.values], w.f32[i*w.values:])
			} else {
				copy(w.u8[k*w.values:(k+1)*w.values], w.u8[i*w.values:])
			}
		}
		w.good = append(w.good, i)
	}
}

// batch returns the pixels of good pictures from .. to-1.
func (w *imageWindow) batch(from, to int) Pixels {
	if len(w.f32) > 0 {
		return Pixels{N: to - from, F32: w.f32[from*w.values : to*w.values]}
	}
	return Pixels{N: to - from, U8: w.u8[from*w.values : to*w.values]}
}

// spread moves the embeddings of the good pictures, which lie at the front of the window's rows of out, to their own
// rows and fills the others with NaN. It goes backwards: no row moves to the front, so none is overwritten too early.
func (w *imageWindow) spread(out Embeddings) {
	for k := len(w.good) - 1; k >= 0 && w.good[k] != k; k-- {
		copy(out.Row(w.first+w.good[k]), out.Row(w.first+k))
	}
	for i, err := range w.errs {
		if err != nil {
			row := out.Row(w.first + i)
			for j := range row {
				row[j] = float32(math.NaN())
			}
		}
	}
}

// appendFailed appends what kept pictures of the window from being encoded.
func (w *imageWindow) appendFailed(items ItemErrors) ItemErrors {
	for i, err := range w.errs {
		if err != nil {
			items = append(items, &ItemError{Index: w.first + i, Name: w.images[i].Name, Err: err})
		}
	}
	return items
}

// read returns the picture's bytes, at most as many as the limits allow.
func (img Image) read(limits ImageLimits) ([]byte, error) {
	if img.Data != nil {
		return img.Data, nil
	}
	f, err := os.Open(img.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	most := limits.bytesMax()
	var size int64 // as the file system has it: a pipe has none
	if info, err := f.Stat(); err == nil {
		size = min(info.Size(), most)
	}
	data := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead)) // read in one go: ReadFrom wants MinRead free at the end
	_, err = data.ReadFrom(io.LimitReader(f, most+1))
	if err == nil && int64(data.Len()) > most {
		err = fmt.Errorf("the file has more than %d bytes, the limit: %w", most, ErrImage)
	}
	return data.Bytes(), err
}

// imagePipe prepares the pictures of a call, window by window, ahead of the encoder.
type imagePipe struct {
	ready  chan *imageWindow // in order; closed after the last one, or when the context has ended
	free   chan *imageWindow // where the encoder returns a window
	cancel context.CancelFunc
	worker sync.WaitGroup
}

// prepare starts to prepare the pictures of a call. Stop the pipe.
//
// There are two windows: one is filled while the other is being encoded. On the CPU only files are read meanwhile.
// Decoding there is a job for the executor, between two batches: both need all cores, and the threads of OpenMP, which
// wait for each other without sleeping, lose more to a third thread than it gains.
func (m *Model) prepare(ctx context.Context, images []Image) (*imagePipe, error) {
	spec, err := m.preprocess.spec()
	if err != nil {
		return nil, err
	}
	size := m.opt.Batch * divideUp(picturesPerThread*m.opt.Threads, m.opt.Batch)         // whole batches
	p := &imagePipe{ready: make(chan *imageWindow, 2), free: make(chan *imageWindow, 2)} // no sender ever waits
	for range min(2, divideUp(len(images), size)) {
		p.free <- imageWindows.Get().(*imageWindow)
	}
	ctx, p.cancel = context.WithCancel(ctx)
	p.worker.Go(func() {
		defer close(p.ready)
		for first := 0; first < len(images); first += size {
			select {
			case w := <-p.free:
				w.reset(m.preprocess, images[first:min(first+size, len(images))], first)
				if m.fill(ctx, w, spec) != nil {
					return
				}
				p.ready <- w
			case <-ctx.Done():
				return
			}
		}
	})
	return p, nil
}

// fill makes the pixels of a window. Its error is the context's.
func (m *Model) fill(ctx context.Context, w *imageWindow, spec cgo.ImageSpec) error {
	for from, to := 0, len(w.images); from < len(w.images); from = to {
		if !m.onCPU() {
			w.decode(ctx, spec, m.opt.Threads, from, to)
			continue
		}
		to = w.read(ctx, m.preprocess.Limits, m.opt.Threads, from)
		err := m.exec.do(ctx, func() error {
			w.decode(ctx, spec, m.opt.Threads, from, to)
			return nil
		})
		if err != nil {
			return err
		}
	}
	w.pack()
	return ctx.Err() // an ended context leaves pictures out
}

// stop ends the work of a pipe and waits for it: nothing touches the caller's pictures afterwards.
func (p *imagePipe) stop() {
	p.cancel()
	p.worker.Wait()
	for w := range p.ready {
		w.release()
	}
	for len(p.free) > 0 {
		(<-p.free).release()
	}
}

// parallel calls f with from .. to-1 on so many goroutines. Each takes the next number when it is done with one, until
// none is left, f has no more use for any, or the context has ended. It returns the first number that was not taken.
func parallel(ctx context.Context, threads, from, to int, f func(i int) (more bool)) int {
	var next atomic.Int64
	next.Store(int64(from))
	var enough atomic.Bool
	var workers sync.WaitGroup
	for range min(threads, to-from) {
		workers.Go(func() {
			for ctx.Err() == nil && !enough.Load() {
				i := int(next.Add(1)) - 1
				if i >= to {
					return
				}
				if !f(i) {
					enough.Store(true)
				}
			}
		})
	}
	workers.Wait()
	return min(int(next.Load()), to)
}
