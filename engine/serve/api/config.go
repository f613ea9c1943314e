package api

import (
	"log/slog"
	"time"
)

// Config is what the server's operator decides. The zero value works: nobody needs a key, and a number or time that is 0
// stands for its default, which is given with it.
type Config struct {
	Listen string // address of HTTP
	GRPC   string // address of gRPC; "": none
	Admin  string // address of the admin listener; "": none

	Keys *Keys         // nil: everybody may ask
	TLS  *Certificates // nil: plain HTTP

	MaxBodyBytes    int64 // of one request; 128 MiB
	MaxBodyBytesAll int64 // of all requests that are not answered yet; 1 GiB
	MaxHeaderBytes  int   // 32 KiB
	MaxConnections  int   // at one time, more wait to be accepted; 4096

	ReadHeaderTimeout time.Duration // 10 s
	ReadTimeout       time.Duration // of a whole request, its body included; 1 min
	WriteTimeout      time.Duration // from an answer's first byte to its last; 1 min
	IdleTimeout       time.Duration // of a connection between two requests; 2 min
	MaxTimeout        time.Duration // the most that X-Timeout-Ms may ask for; 10 min

	AllowFetch     bool          // pictures may be http and https URLs: the server fetches them
	FetchTimeout   time.Duration // of one; 10 s
	MaxImageBytes  int64         // of one that is fetched; 32 MiB
	MaxImagePixels uint64        // width * height of a picture that /v1/preprocess decodes; 67,108,864

	Metrics *Metrics     // may be nil
	Tracing *Tracing     // may be nil
	Logger  *slog.Logger // may be nil
}

// withDefaults returns c with the defaults in place of zeros.
func (c Config) withDefaults() Config {
	fill(&c.MaxBodyBytes, 128<<20)
	fill(&c.MaxBodyBytesAll, 1<<30)
	fill(&c.MaxHeaderBytes, 32<<10)
	fill(&c.MaxConnections, 4096)
	fill(&c.ReadHeaderTimeout, 10*time.Second)
	fill(&c.ReadTimeout, time.Minute)
	fill(&c.WriteTimeout, time.Minute)
	fill(&c.IdleTimeout, 2*time.Minute)
	fill(&c.MaxTimeout, 10*time.Minute)
	fill(&c.FetchTimeout, 10*time.Second)
	fill(&c.MaxImageBytes, 32<<20)
	fill(&c.MaxImagePixels, 64<<20)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func fill[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}
