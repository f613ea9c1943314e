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
	"github.com/tia2-engine/tia2-engine/engine/internal/embedcache"
)

const (
	// picturesPerThread is how many pictures a window has at least for each thread. The threads take them one by one, so
	// that they wait for each other for the time of one picture at most.
	picturesPerThread = 4
	// readAheadBytes is how much of files is read before their pictures are decoded; each thread may go over it by a file.
	readAheadBytes = 64 << 20
	// windowRun is how many windows' worth of pictures one window goes through at most where the cache has nearly all.
	windowRun = 64
)

// picture is one of a call on its way to the encoder.
type picture struct {
	Image
	index int            // in the call
	data  []byte         // the file, once it is read and until it is decoded
	key   embedcache.Key // of the file, once it is looked up
	err   error          // why it cannot be encoded
}

// read reads the picture's file, if that was not done.
func (p *picture) read(limits ImageLimits) {
	if p.data == nil && p.err == nil {
		p.data, p.err = p.Image.read(limits)
	}
}

// imageWindow is some pictures that are prepared together and then encoded, as one batch or several. Its memory is kept
// for another window.
type imageWindow struct {
	pictures []picture        // [n] in the order of the call
	done     int              // so many pictures of the call are done when these are
	u8       []uint8          // [n, S, S, 3] pixels; those of the good pictures are moved to the front
	f32      []float32        // or [n, 3, S, S]
	good     []int            // places of the pictures that can be encoded, rising
	keys     []embedcache.Key // [good]
	rows     []float32        // embeddings of a batch
	values   int              // of one picture
}

var imageWindows = sync.Pool{New: func() any { return new(imageWindow) }}

// reset makes w a window without pictures that has room for n.
func (w *imageWindow) reset(p Preprocess, n int) {
	w.pictures, w.good, w.keys, w.values = w.pictures[:0], w.good[:0], w.keys[:0], p.values()
	w.u8, w.f32 = w.u8[:0], w.f32[:0]
	if p.isFloat() {
		w.f32 = slices.Grow(w.f32, n*w.values)[:n*w.values]
	} else {
		w.u8 = slices.Grow(w.u8, n*w.values)[:n*w.values]
	}
}

// release forgets what belongs to the caller and keeps w for another window.
func (w *imageWindow) release() {
	clear(w.pictures[:cap(w.pictures)])
	w.pictures = w.pictures[:0]
	imageWindows.Put(w)
}

// decode makes the pixels of pictures from and on, reading the files that have not been.
func (w *imageWindow) decode(ctx context.Context, spec cgo.ImageSpec, threads, from int) {
	parallel(ctx, threads, from, len(w.pictures), func(i int) (more bool) {
		p := &w.pictures[i]
		p.read(ImageLimits(spec.Limits))
		if p.err == nil && len(w.f32) > 0 {
			p.err = cgo.PreprocessF32(w.f32[i*w.values:(i+1)*w.values], p.data, spec)
		} else if p.err == nil {
			p.err = cgo.PreprocessU8(w.u8[i*w.values:(i+1)*w.values], p.data, spec)
		}
		p.data = nil
		return true
	})
}

// pack moves the pixels of the good pictures to the front, so that a bad one leaves no hole.
func (w *imageWindow) pack() {
	for i := range w.pictures {
		if w.pictures[i].err != nil {
			continue
		}
		if k := len(w.good); k != i {
			if len(w.f32) > 0 {
				copy(w.f32[k*w.values:(k+1)*w.values], w.f32[i*w.values:])
			} else {
				copy(w.u8[k*w.values:(k+1)*w.values], w.u8[i*w.values:])
			}
		}
		w.good, w.keys = append(w.good, i), append(w.keys, w.pictures[i].key)
	}
}

// batch returns the pixels of good pictures from .. to-1, and room for their embeddings, f32 [to-from, dim].
func (w *imageWindow) batch(from, to, dim int) (px Pixels, rows []float32) {
	w.rows = slices.Grow(w.rows[:0], (to-from)*dim)[:(to-from)*dim]
	px.N = to - from
	if len(w.f32) > 0 {
		px.F32 = w.f32[from*w.values : to*w.values]
	} else {
		px.U8 = w.u8[from*w.values : to*w.values]
	}
	return px, w.rows
}

// spread copies the embeddings of good pictures from and on to their rows of out.
func (w *imageWindow) spread(from int, rows []float32, out Embeddings) {
	for k := range len(rows) / out.Dim {
		copy(out.Row(w.pictures[w.good[from+k]].index), rows[k*out.Dim:])
	}
}

// appendFailed appends what kept pictures of the window from being encoded, and fills their rows of out with NaN.
func (w *imageWindow) appendFailed(items ItemErrors, out Embeddings) ItemErrors {
	for _, p := range w.pictures {
		if p.err != nil {
			items = append(items, &ItemError{Index: p.index, Name: p.Name, Err: p.err})
			row := out.Row(p.index)
			for j := range row {
				row[j] = float32(math.NaN())
			}
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

	// What follows is the worker's alone.
	model  *Model
	spec   cgo.ImageSpec
	images []Image
	out    Embeddings // of the call: the rows of pictures that the cache has are written here
	size   int        // most pictures of a window
	next   int        // first picture that was not taken
	run    []picture  // taken last
	missed []picture  // taken, not in the cache, and in no window yet; fewer than size between two windows
	keys   []embedcache.Key
	hit    []bool
}

// prepare starts to prepare the pictures of a call, whose embeddings are written to out. Stop the pipe.
//
// There are two windows: one is filled while the other is being encoded. On the CPU only files are read meanwhile.
// Decoding there is a job for the executor, between two batches: both need all cores, and the threads of OpenMP, which
// wait for each other without sleeping, lose more to a third thread than it gains. So is looking up in the cache.
func (m *Model) prepare(ctx context.Context, images []Image, out Embeddings) (*imagePipe, error) {
	spec, err := m.preprocess.spec()
	if err != nil {
		return nil, err
	}
	p := &imagePipe{model: m, spec: spec, images: images, out: out,
		size:  m.opt.Batch * divideUp(picturesPerThread*m.opt.Threads, m.opt.Batch), // whole batches
		ready: make(chan *imageWindow, 2), free: make(chan *imageWindow, 2)}         // no sender ever waits
	for range min(2, divideUp(len(images), p.size)) {
		p.free <- imageWindows.Get().(*imageWindow)
	}
	ctx, p.cancel = context.WithCancel(ctx)
	go func() {
		defer close(p.ready)
		for p.left() > 0 {
			select {
			case w := <-p.free:
				if p.fill(ctx, w) != nil {
					w.release()
					return
				}
				p.ready <- w
			case <-ctx.Done():
				return
			}
		}
	}()
	return p, nil
}

// left returns how many pictures are in no window yet, for all that is known.
func (p *imagePipe) left() int { return len(p.missed) + len(p.images) - p.next }

// fill takes pictures until the window is full, or none is left, or so many were found in the cache that it is time to
// tell of them. It makes the pixels of those that were not found. Its error is the context's.
func (p *imagePipe) fill(ctx context.Context, w *imageWindow) error {
	w.reset(p.model.preprocess, min(p.size, p.left()))
	for end := p.next + windowRun*p.size; len(w.pictures) < p.size && p.left() > 0 && p.next < end; {
		if len(p.missed) == 0 {
			p.take(ctx, p.size-len(w.pictures))
		}
		prepare := func() error {
			p.lookUp(ctx)
			from := len(w.pictures)
			n := min(p.size-from, len(p.missed))
			w.pictures = append(w.pictures, p.missed[:n]...)
			p.missed = slices.Delete(p.missed, 0, n)
			w.decode(ctx, p.spec, p.model.opt.Threads, from)
			return nil
		}
		err := ctx.Err()
		if err == nil && p.model.onCPU() {
			err = p.model.exec.do(ctx, prepare)
		} else if err == nil {
			err = prepare()
		}
		if err != nil {
			return err
		}
	}
	w.pack()
	w.done = len(p.images) - p.left()
	return ctx.Err() // an ended context leaves pictures out
}

// take takes the next pictures: n of them, or, where some will be found in the cache, as many as fill a window. It reads
// their files, at most about readAheadBytes, if they are to be looked up, or if something else is being computed
// meanwhile.
func (p *imagePipe) take(ctx context.Context, n int) {
	cached := p.model.cached.images.on()
	if cached {
		n = p.size
	}
	n = min(n, len(p.images)-p.next)
	p.run = p.run[:0]
	for i := p.next; i < p.next+n; i++ {
		p.run = append(p.run, picture{Image: p.images[i], index: i})
	}
	if cached || p.model.onCPU() {
		var total atomic.Int64
		n = parallel(ctx, p.model.opt.Threads, 0, n, func(i int) (more bool) {
			p.run[i].read(p.model.preprocess.Limits)
			return p.run[i].Data != nil || total.Add(int64(len(p.run[i].data))) < readAheadBytes
		})
	}
	p.run = p.run[:n]
	p.next += n
}

// lookUp writes the embeddings of the pictures taken last that the cache has to their rows. The other pictures wait for
// a window.
func (p *imagePipe) lookUp(ctx context.Context) {
	defer func() {
		clear(p.run) // the bytes of what was found are needed no more
		p.run = p.run[:0]
	}()
	cache, n := &p.model.cached.images, len(p.run)
	if !cache.on() || n == 0 {
		p.missed = append(p.missed, p.run...)
		return
	}
	parallel(ctx, p.model.opt.Threads, 0, n, func(i int) (more bool) {
		if p.run[i].err == nil {
			p.run[i].key = imageKey(p.run[i].data)
		}
		return true
	})
	p.keys, p.hit = p.keys[:0], slices.Grow(p.hit[:0], n)[:n]
	asked := 0
	for _, pic := range p.run {
		p.keys = append(p.keys, pic.key)
		if pic.err == nil {
			asked++
		}
	}
	first := p.run[0].index
	hits := cache.get(p.keys, p.out.Data[first*p.out.Dim:(first+n)*p.out.Dim], p.hit)
	cache.asked.Add(uint64(asked))
	cache.found.Add(uint64(hits))
	for i, pic := range p.run {
		if !p.hit[i] {
			p.missed = append(p.missed, pic)
		}
	}
}

// stop ends the work of a pipe and waits until it is closed: nothing touches the caller's pictures afterwards.
func (p *imagePipe) stop() {
	p.cancel()
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
