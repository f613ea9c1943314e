package serve

import (
	"context"
	"log/slog"
	"time"

	"github.com/tia2-engine/tia2-engine/engine"
)

// Backend is what the core computes with: the engine's models (OpenBackend), or what a test puts in their place. Its
// methods may be called from several goroutines.
type Backend interface {
	// Rewards returns the names of all rewards, distinct, in order.
	Rewards() []string
	// Score returns the named rewards of the pairs, as engine.ScorePairs: f32 [len(pairs)] each, in the order of rewards.
	Score(ctx context.Context, images []engine.Image, texts []string, pairs []engine.Pair, rewards []string) ([]engine.Reward, error)
	// EncodeImages and EncodeTexts return embeddings of the model with that name in Models.
	EncodeImages(ctx context.Context, model string, images []engine.Image) (engine.Embeddings, error)
	EncodeTexts(ctx context.Context, model string, texts []string) (engine.Embeddings, error)
	// Models describes the models. Name and Rewards are those by which they are served, distinct.
	Models() []engine.Info
	Close() error
}

// Options bound what a server takes on. The zero value is a good choice; a number that is 0 stands for its default.
type Options struct {
	MaxBatchImages int           // most pictures of a batch; 32
	MaxBatchTokens int           // most tokens of its texts, estimated; 16384
	MaxBatchPairs  int           // most pairs; 1024
	MaxBatchTime   time.Duration // most time by the rate measured so far, so that others need not wait long; 2 s

	LatencyBudget time.Duration // how long the first item of a batch waits for company while the backend is idle; 2 ms, < 0: not at all
	QueueItems    int           // most waiting items (pairs, pictures, texts); 65536
	QueueBytes    int64         // most bytes of pictures and texts held by all requests; 1 GiB
	Timeout       time.Duration // of a request without a deadline of its own; 2 min, < 0: none
	ProbeTimeout  time.Duration // how long the probe of Ready may take, beside a batch that is being computed; 10 s

	MaxImages     int   // pictures of a request; 4096
	MaxTexts      int   // texts of a request; 16384
	MaxTextBytes  int   // bytes of one text; 64 KiB
	MaxImageBytes int64 // bytes of one picture's file; 32 MiB

	Observer Observer     // told of stages; may be nil
	Logger   *slog.Logger // may be nil
}

// withDefaults returns o with the defaults in place of zeros.
func (o Options) withDefaults() Options {
	fill(&o.MaxBatchImages, 32)
	fill(&o.MaxBatchTokens, 16384)
	fill(&o.MaxBatchPairs, 1024)
	fill(&o.MaxBatchTime, 2*time.Second)
	fill(&o.LatencyBudget, 2*time.Millisecond)
	fill(&o.QueueItems, 1<<16)
	fill(&o.QueueBytes, 1<<30)
	fill(&o.Timeout, 2*time.Minute)
	fill(&o.ProbeTimeout, 10*time.Second)
	fill(&o.MaxImages, 4096)
	fill(&o.MaxTexts, 16384)
	fill(&o.MaxTextBytes, 64<<10)
	fill(&o.MaxImageBytes, 32<<20)
	if o.Observer == nil {
		o.Observer = noObserver{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func fill[T int | int64 | time.Duration](v *T, value T) {
	if *v == 0 {
		*v = value
	}
}

// Observer hears of stages: metrics and traces hang here. Its methods are called from any goroutine and should return
// at once.
type Observer interface {
	// Queued is told how many items wait, whenever that has changed.
	Queued(items int)
	// BatchDone is told of every batch.
	BatchDone(b BatchStats)
	// RequestDone is told of every request by its own goroutine: kind is "score", "textnorm" or "embed", waited the time
	// until its first batch began, computed that from then to its end. A request that was refused has neither.
	RequestDone(kind string, err error, items int, waited, computed time.Duration)
}

// StageObserver is an Observer that hears of the single stages of requests as well, as traces want them: "queue",
// "compute" and, of TextNorm, "softmax". ctx is that of the request, or one below it.
type StageObserver interface {
	Stage(ctx context.Context, name string, began time.Time, took time.Duration)
}

type noObserver struct{}

func (noObserver) Queued(int)                                                   {}
func (noObserver) BatchDone(BatchStats)                                         {}
func (noObserver) RequestDone(string, error, int, time.Duration, time.Duration) {}

// BatchStats describe a batch that was computed. Pictures, texts and pairs are distinct ones.
type BatchStats struct {
	Kind     string        // "pairs", "images" or "texts"
	Target   string        // rewards, joined by commas, or the model
	Images   int           // pictures
	Texts    int           // texts
	Tokens   int           // of the texts, estimated
	Units    int           // pairs, pictures or texts that were computed
	Items    int           // items of requests that they answered: Items - Units came for nothing
	Requests int           // requests that had a part in it
	Waited   time.Duration // of the item that waited longest
	Computed time.Duration
	Halved   bool // memory did not suffice for the whole
	Err      error
}

// Stats are counts since the server began, and what there is now.
type Stats struct {
	Waiting      int   // items in the queue
	WaitingBytes int64 // bytes of pictures and texts that requests hold
	Running      int   // batches that are being computed
	Requests     int   // requests that are not answered yet
	Reading      int   // requests announced by Reading that have not arrived yet

	Accepted uint64            // requests
	Answered uint64            // of these, without an error
	Batches  uint64            // batches computed, failed ones too
	Items    uint64            // items answered
	Units    uint64            // units computed: Items - Units were answered by others' computation
	Panics   uint64            // of the backend
	Reloads  uint64            // backends swapped in
	Dropped  map[string]uint64 // items that were not answered, by reason: see the Drop constants

	ItemsPerSecond float64       // of the last batches, 0 before the first
	Backlog        time.Duration // estimate of the time that what waits will take
	LastAnswer     time.Time     // when a batch or a probe last succeeded
	Draining       bool
}

// Reasons in Stats.Dropped.
const (
	DropQueue    = "queue"    // refused: the queue has too many items
	DropBytes    = "bytes"    // refused: requests hold too many bytes
	DropDeadline = "deadline" // refused: it could not be answered in time
	DropDraining = "draining" // refused, or ended by Close
	DropCanceled = "canceled" // the client went away
	DropTimeout  = "timeout"  // the deadline passed
	DropFailed   = "failed"   // a batch failed
)

// ScoreRequest asks for rewards of pairs of a picture and a text.
type ScoreRequest struct {
	Client  string         // for fairness: the key's name, else the remote host
	Rewards []string       // names; empty: all
	Images  []engine.Image // with Data
	Texts   []string
	Pairs   []engine.Pair // empty: image i with text i (as many of each), or, where one side has one item, that with all
	All     bool          // instead: every image with every text, image by image
}

// ScoreResult answers a ScoreRequest.
type ScoreResult struct {
	Rewards []string
	Scores  [][]float32   // [rewards][pairs]; NaN where a picture failed
	Pairs   []engine.Pair // as asked for, or as the request implied
	Errors  []ItemError   // pictures that failed
}

// TextNormRequest asks for rewards of pictures for their prompt and its contrastive prompts, and their calibration.
type TextNormRequest struct {
	Client      string
	Rewards     []string // names; empty: all
	Images      []engine.Image
	Prompt      string
	Contrastive []string // order and repetition have no effect on the confidence
	Scale       float64  // of the softmax; 0: textnorm.DefaultScale
	MinMax      string   // "image" (also "") or "set"
}

// TextNormResult answers a TextNormRequest.
type TextNormResult struct {
	Rewards    []string
	Scores     [][][]float32 // [rewards][images][texts]: the prompt, then Contrastive as given; NaN where a picture failed
	Confidence [][]float32   // [rewards][images], each in (0, 1]; NaN where a picture failed
	Errors     []ItemError
}

// EmbedRequest asks for embeddings of pictures, texts or both.
type EmbedRequest struct {
	Client string
	Model  string // a Name of Models, a model's Spec or one of its rewards; empty: the only model that has embeddings
	Images []engine.Image
	Texts  []string
}

// EmbedResult answers an EmbedRequest.
type EmbedResult struct {
	Model         string            // its Name
	Images, Texts engine.Embeddings // a row of NaN where a picture failed
	Errors        []ItemError
}

// ItemError says, for people, why a picture failed.
type ItemError struct {
	Index   int // in Images
	Message string
}
