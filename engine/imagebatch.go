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
	// towersMax is how many models a call can have: a picture has a bit for each.
	towersMax = 64
)

// tower is what one model computes of the pictures of a call.
type tower struct {
	m     *Model
	out   Embeddings // of all pictures; Dim is 0 where none are wanted
	pairs *matching  // nil where none are wanted
	input int        // its preprocessing, in the pipe's
}

// keeps tells whether embeddings are put into the model's cache.
func (t *tower) keeps() bool { return t.out.Dim > 0 && t.m.cached.images.on() }

// asks tells whether embeddings are looked up there: for pairs a picture is encoded anyway.
func (t *tower) asks() bool { return t.keeps() && t.pairs == nil }

// encode computes pictures of a window, given by their places: one batch after another, or as many as states are held of.
// tell is told how many of the places are done.
func (t *tower) encode(ctx context.Context, w *imageWindow, places []int, tell func(done int)) error {
	group := t.m.opt.Batch
	if t.pairs != nil {
		group = t.pairs.pictures()
	}
	for from := 0; from < len(places); from += group {
		to := min(from+group, len(places))
		if err := t.encodeGroup(ctx, w, places[from:to]); err != nil {
			return fmt.Errorf("tia2: images %d to %d: %w", w.pictures[places[from]].index, w.pictures[places[to-1]].index, err)
		}
		tell(to)
	}
	return nil
}

// encodeGroup encodes pictures, puts their embeddings where they belong, and into the cache, and computes their pairs.
func (t *tower) encodeGroup(ctx context.Context, w *imageWindow, places []int) error {
	rows := resize(&w.rows, len(places)*t.out.Dim)
	var states []float32
	if t.pairs != nil {
		states = resize(&t.pairs.states, len(places)*t.m.stateSize())
	}
	if err := t.m.encodePixels(ctx, w.batch(t.input, places), rows, states); err != nil {
		return err
	}
	w.keys, w.indexes = w.keys[:0], w.indexes[:0]
	for k, place := range places {
		p := &w.pictures[place]
		if t.out.Dim > 0 {
			copy(t.out.Row(p.index), rows[k*t.out.Dim:])
		}
		w.keys, w.indexes = append(w.keys, p.key), append(w.indexes, p.index)
	}
	if t.keeps() {
		t.m.cached.images.put(w.keys, rows)
	}
	if t.pairs == nil {
		return nil
	}
	return t.pairs.match(ctx, w.indexes)
}

// fail fills the row of a picture that could not be read with NaN. Pairs have it from the beginning.
func (t *tower) fail(index int) {
	if t.out.Dim == 0 {
		return
	}
	row := t.out.Row(index)
	for i := range row {
		row[i] = float32(math.NaN())
	}
}

// resize makes s n values long, whatever they are, and returns it.
func resize[T any](s *[]T, n int) []T {
	*s = slices.Grow((*s)[:0], n)[:n]
	return *s
}

// picture is one of a call on its way to the encoders.
type picture struct {
	Image
	index int            // in the call
	data  []byte         // the file, once it is read and until it is decoded
	key   embedcache.Key // of the file, once it is looked up
	lacks uint64         // a bit for each tower that has not found it in its cache
	err   error          // why its file cannot be read
}

// read reads the picture's file, if that was not done.
func (p *picture) read(limits ImageLimits) {
	if p.data == nil && p.err == nil {
		p.data, p.err = p.Image.read(limits)
	}
}

// imageInput is a preprocessing that one or several towers have.
type imageInput struct {
	Preprocess
	spec   cgo.ImageSpec
	towers uint64 // a bit for each
}

// pixelRows are the pixels of the pictures of a window by one preprocessing.
type pixelRows struct {
	values int       // of a picture
	u8     []uint8   // [n, S, S, 3]
	f32    []float32 // or [n, 3, S, S]
	errs   []error   // [n] why a picture has none
}

// imageWindow is some pictures that are prepared together and then encoded, as one batch or several. Its memory is kept
// for another window.
type imageWindow struct {
	pictures []picture   // [n] in the order of the call
	done     int         // so many pictures of the call are done when these are
	pixels   []pixelRows // [inputs]
	places   [][]int     // [towers] of the pictures that a tower can encode, rising

	// What follows is of one group of pictures: the pixels where they do not stand together, and the embeddings.
	u8      []uint8
	f32     []float32
	keys    []embedcache.Key
	indexes []int
	rows    []float32
}

var imageWindows = sync.Pool{New: func() any { return new(imageWindow) }}

// reset makes w a window without pictures that has room for n.
func (w *imageWindow) reset(inputs []imageInput, towers, n int) {
	w.pictures = w.pictures[:0]
	w.pixels = slices.Grow(w.pixels[:0], len(inputs))[:len(inputs)]
	for i, in := range inputs {
		x := &w.pixels[i]
		x.values = in.Preprocess.values()
		clear(resize(&x.errs, n))
		if in.isFloat() {
			x.u8 = x.u8[:0]
			resize(&x.f32, n*x.values)
		} else {
			x.f32 = x.f32[:0]
			resize(&x.u8, n*x.values)
		}
	}
	w.places = slices.Grow(w.places[:0], towers)[:towers]
	for i := range w.places {
		w.places[i] = w.places[i][:0]
	}
}

// release forgets what belongs to the caller and keeps w for another window.
func (w *imageWindow) release() {
	clear(w.pictures[:cap(w.pictures)])
	w.pictures = w.pictures[:0]
	imageWindows.Put(w)
}

// decode makes the pixels of pictures from and on that towers lack, reading the files that have not been.
func (w *imageWindow) decode(ctx context.Context, inputs []imageInput, limits ImageLimits, threads, from int) {
	parallel(ctx, threads, from, len(w.pictures), func(i int) (more bool) {
		p := &w.pictures[i]
		p.read(limits)
		for k, in := range inputs {
			if p.err == nil && in.towers&p.lacks != 0 {
				w.pixels[k].errs[i] = w.pixels[k].fill(i, p.data, in.spec)
			}
		}
		p.data = nil
		return true
	})
}

// fill makes the pixels of the i-th picture.
func (x *pixelRows) fill(i int, data []byte, spec cgo.ImageSpec) error {
	if len(x.f32) > 0 {
		return cgo.PreprocessF32(x.f32[i*x.values:(i+1)*x.values], data, spec)
	}
	return cgo.PreprocessU8(x.u8[i*x.values:(i+1)*x.values], data, spec)
}

// sort finds out which pictures each tower can encode.
func (w *imageWindow) sort(towers []*tower) {
	for i := range w.pictures {
		for k, t := range towers {
			if w.pictures[i].lacks&(1<<k) != 0 && w.err(i, t.input) == nil {
				w.places[k] = append(w.places[k], i)
			}
		}
	}
}

// err returns why the i-th picture has no pixels of an input.
func (w *imageWindow) err(i, input int) error {
	if err := w.pictures[i].err; err != nil {
		return err
	}
	return w.pixels[input].errs[i]
}

// batch returns the pixels of the pictures at some places, which rise: as they lie if nothing lies between them, else
// copied together.
func (w *imageWindow) batch(input int, places []int) Pixels {
	x, n := &w.pixels[input], len(places)
	first, last := places[0], places[n-1]
	px := Pixels{N: n}
	switch together := last-first == n-1; {
	case together && len(x.f32) > 0:
		px.F32 = x.f32[first*x.values : (last+1)*x.values]
	case together:
		px.U8 = x.u8[first*x.values : (last+1)*x.values]
	case len(x.f32) > 0:
		px.F32 = gather(&w.f32, x.f32, places, x.values)
	default:
		px.U8 = gather(&w.u8, x.u8, places, x.values)
	}
	return px
}

// gather copies rows of so many values to dst, which it returns.
func gather[T any](dst *[]T, src []T, places []int, values int) []T {
	out := resize(dst, len(places)*values)
	for k, place := range places {
		copy(out[k*values:(k+1)*values], src[place*values:])
	}
	return out
}

// appendFailed appends what kept pictures of the window from being encoded, one error each, and fills their rows with NaN.
func (w *imageWindow) appendFailed(items ItemErrors, towers []*tower) ItemErrors {
	for i := range w.pictures {
		p := &w.pictures[i]
		var first error
		for k, t := range towers {
			if p.lacks&(1<<k) == 0 {
				continue
			}
			if err := w.err(i, t.input); err != nil {
				t.fail(p.index)
				if first == nil {
					first = err
				}
			}
		}
		if first != nil {
			items = append(items, &ItemError{Index: p.index, Name: p.Name, Err: first})
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

// imagePipe takes the pictures of a call through the towers of one or several models. It prepares them window by window,
// ahead of the encoders: each file is read once, and each picture resized once for each distinct preprocessing.
type imagePipe struct {
	images  []Image
	towers  []*tower
	inputs  []imageInput
	limits  ImageLimits // of files, the widest
	threads int
	size    int       // most pictures of a window
	cpu     *executor // where pictures are decoded, nil: on goroutines

	ready  chan *imageWindow // in order; closed after the last one, or when the context has ended
	free   chan *imageWindow // where the encoder returns a window
	cancel context.CancelFunc

	// What follows is the worker's alone.
	next   int       // first picture that was not taken
	taken  []picture // last
	missed []picture // taken, lacked by a tower, and in no window yet; fewer than size between two windows
	keys   []embedcache.Key
	hit    []bool
}

// newImagePipe makes the pipe of a call.
func newImagePipe(images []Image, towers []*tower) (*imagePipe, error) {
	if len(towers) > towersMax {
		return nil, ofKind(ErrInvalid, "tia2: %d models in one call: expected at most %d", len(towers), towersMax)
	}
	p := &imagePipe{images: images, towers: towers}
	for k, t := range towers {
		in, opt := t.m.preprocess, &t.m.opt
		t.input = slices.IndexFunc(p.inputs, func(other imageInput) bool { return other.pixels() == in.pixels() })
		if t.input < 0 {
			spec, err := in.spec()
			if err != nil {
				return nil, err
			}
			t.input = len(p.inputs)
			p.inputs = append(p.inputs, imageInput{Preprocess: in, spec: spec})
		}
		p.inputs[t.input].towers |= 1 << k
		p.limits.BytesMax = max(p.limits.BytesMax, uint64(in.Limits.bytesMax()))
		p.threads = max(p.threads, opt.Threads)
		p.size = max(p.size, opt.Batch*divideUp(picturesPerThread*opt.Threads, opt.Batch)) // whole batches
		if t.m.onCPU() {
			p.cpu = t.m.exec
		}
	}
	return p, nil
}

// run encodes the pictures, and returns those that could not be read. An error ends it between two batches.
//
// There are two windows: one is filled while the other is being encoded. On the CPU only files are read meanwhile.
// Decoding there is a job for the executor, between two batches: both need all cores, and the threads of OpenMP, which
// wait for each other without sleeping, lose more to a third thread than it gains. So is looking up in the cache.
func (p *imagePipe) run(ctx context.Context, count counter) (ItemErrors, error) {
	p.start(ctx)
	defer p.stop()
	var failed ItemErrors
	count.at(0)
	for done := 0; done < len(p.images); {
		w, ok := <-p.ready
		if !ok {
			return nil, ctx.Err()
		}
		if err := p.encode(ctx, w, count); err != nil {
			return nil, err
		}
		failed = w.appendFailed(failed, p.towers)
		done = w.done
		p.free <- w
	}
	return failed, nil
}

// encode takes a window through all towers, each of which counts as a share of its pictures.
func (p *imagePipe) encode(ctx context.Context, w *imageWindow, count counter) error {
	n := len(w.pictures)
	before := w.done - n // pictures that were done before
	told := before
	for k, t := range p.towers {
		places := w.places[k]
		err := t.encode(ctx, w, places, func(done int) {
			last := k == len(p.towers)-1 && done == len(places) // which the end of the window is told for
			if at := before + (k*n+places[done-1]+1)/len(p.towers); at > told && !last {
				told = at
				count.at(at)
			}
		})
		if err != nil {
			return err
		}
	}
	count.at(w.done)
	return nil
}

// start lets a worker fill windows.
func (p *imagePipe) start(ctx context.Context) {
	p.ready, p.free = make(chan *imageWindow, 2), make(chan *imageWindow, 2) // no sender ever waits
	if p.size > 0 {
		for range min(2, divideUp(len(p.images), p.size)) {
			p.free <- imageWindows.Get().(*imageWindow)
		}
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
}

// left returns how many pictures are in no window yet, for all that is known.
func (p *imagePipe) left() int { return len(p.missed) + len(p.images) - p.next }

// fill takes pictures until the window is full, or none is left, or so many were found in the cache that it is time to
// tell of them. It makes the pixels of those that were not found. Its error is the context's.
func (p *imagePipe) fill(ctx context.Context, w *imageWindow) error {
	w.reset(p.inputs, len(p.towers), min(p.size, p.left()))
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
			w.decode(ctx, p.inputs, p.limits, p.threads, from)
			return nil
		}
		err := ctx.Err()
		if err == nil && p.cpu != nil {
			err = p.cpu.do(ctx, prepare)
		} else if err == nil {
			err = prepare()
		}
		if err != nil {
			return err
		}
	}
	w.sort(p.towers)
	w.done = len(p.images) - p.left()
	return ctx.Err() // an ended context leaves pictures out
}

// cached tells whether a tower has a cache, for which each file is read and hashed first.
func (p *imagePipe) cached() bool { return slices.ContainsFunc(p.towers, (*tower).keeps) }

// take takes the next pictures: n of them, or, where some will be found in the cache, as many as fill a window. It reads
// their files, at most about readAheadBytes, if they are to be looked up, or if something else is being computed
// meanwhile.
func (p *imagePipe) take(ctx context.Context, n int) {
	cached := p.cached()
	if cached {
		n = p.size
	}
	n = min(n, len(p.images)-p.next)
	p.taken = p.taken[:0]
	for i := p.next; i < p.next+n; i++ {
		p.taken = append(p.taken, picture{Image: p.images[i], index: i, lacks: 1<<len(p.towers) - 1})
	}
	if cached || p.cpu != nil {
		var total atomic.Int64
		n = parallel(ctx, p.threads, 0, n, func(i int) (more bool) {
			p.taken[i].read(p.limits)
			return p.taken[i].Data != nil || total.Add(int64(len(p.taken[i].data))) < readAheadBytes
		})
	}
	p.taken = p.taken[:n]
	p.next += n
}

// lookUp writes the embeddings of the pictures taken last that a model's cache has to their rows. Pictures that a tower
// lacks wait for a window.
func (p *imagePipe) lookUp(ctx context.Context) {
	if len(p.taken) > 0 && p.cached() {
		p.hash(ctx)
		for k, t := range p.towers {
			if t.asks() {
				p.lookUpFor(t, 1<<k)
			}
		}
	}
	for _, pic := range p.taken {
		if pic.lacks != 0 {
			p.missed = append(p.missed, pic)
		}
	}
	clear(p.taken) // the bytes of what was found are needed no more
	p.taken = p.taken[:0]
}

// hash finds the keys of the pictures taken last.
func (p *imagePipe) hash(ctx context.Context) {
	parallel(ctx, p.threads, 0, len(p.taken), func(i int) (more bool) {
		if p.taken[i].err == nil {
			p.taken[i].key = imageKey(p.taken[i].data)
		}
		return true
	})
	p.keys = p.keys[:0]
	for _, pic := range p.taken {
		p.keys = append(p.keys, pic.key)
	}
}

// lookUpFor looks the pictures taken last up for one tower, whose bit is given.
func (p *imagePipe) lookUpFor(t *tower, bit uint64) {
	first, n := p.taken[0].index, len(p.taken)
	cache, hit := &t.m.cached.images, resize(&p.hit, n)
	hits := cache.get(p.keys, t.out.Data[first*t.out.Dim:(first+n)*t.out.Dim], hit)
	asked := 0
	for i := range p.taken {
		if p.taken[i].err == nil {
			asked++
		}
		if hit[i] {
			p.taken[i].lacks &^= bit
		}
	}
	cache.asked.Add(uint64(asked))
	cache.found.Add(uint64(hits))
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
