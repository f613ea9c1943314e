package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/tia2-engine/tia2-engine/bench/profile"
	"github.com/tia2-engine/tia2-engine/engine"
	"github.com/tia2-engine/tia2-engine/engine/serve"
	"github.com/tia2-engine/tia2-engine/engine/serve/api"
	"github.com/tia2-engine/tia2-engine/engine/serve/protocol"
	"github.com/tia2-engine/tia2-engine/engine/serve/web"
)

func serveCommand(con *console) *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "answer requests for rewards and embeddings over HTTP and gRPC",
		UsageText: "tia2-engine serve --model SPEC... [--listen :8080] [--grpc :8081] [--admin 127.0.0.1:9090]\n" +
			"tia2-engine serve --model SPEC --api-keys FILE --tls-cert FILE --tls-key FILE",
		Description: "Native JSON under /v1 (GET /openapi.json says what there is), pickled dicts as ddpo-pytorch and flow_grpo send them (POST /),\n" +
			"UniRL (/score), KServe (/v2 and gRPC), OpenAI's embeddings (/v1/embeddings), and a page to try it (GET /). SIGTERM and Ctrl-C end it when what was\n" +
			"accepted is answered, a second one at once; SIGHUP reads models, keys and certificates again.",
		Flags: slices.Concat(modelFlags(), serveEmbeddingFlags(), listenFlags(), queueFlags(), requestFlags(), []cli.Flag{scaleFlag("answer pickle and KServe clients (/v1/ is always raw, UniRL has its own)")}),
		Action: func(c *cli.Context) error {
			if err := requireArgs(c, 0, 0, "none (models are named with --model)"); err != nil {
				return err
			}
			return serveModels(con, c)
		},
	}
}

// serveEmbeddingFlags are embeddingFlags of a program that keeps nothing of what clients send unless told so.
func serveEmbeddingFlags() []cli.Flag {
	flags := embeddingFlags()
	flags[0].(*cli.StringFlag).Value = engine.CacheOff
	return flags
}

// listenFlags say who may ask, and where.
func listenFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "listen", Value: ":8080", Usage: "`ADDRESS` of HTTP"},
		&cli.StringFlag{Name: "grpc", Usage: "`ADDRESS` of gRPC (default: none)"},
		&cli.StringFlag{Name: "admin", Value: "127.0.0.1:9090", Usage: "`ADDRESS` of metrics, profiles, reload and drain; \"\" is none"},
		&cli.StringFlag{Name: "api-keys", Usage: "`FILE` with a name:key or name:sha256=HEX a line (default: everybody may ask)"},
		&cli.StringFlag{Name: "tls-cert", Usage: "`FILE` with the server's certificates, PEM"},
		&cli.StringFlag{Name: "tls-key", Usage: "`FILE` with their key"},
		&cli.StringFlag{Name: "client-ca", Usage: "`FILE` with authorities, one of which must have signed a client's certificate"},
		&cli.StringFlag{Name: "otlp-endpoint", EnvVars: []string{"OTEL_EXPORTER_OTLP_ENDPOINT"}, Usage: "`URL` that traces are sent to, as http://localhost:4318"},
		&cli.StringFlag{Name: "log-level", Value: "info", Usage: "debug, info (a line for each request), warn or error"},
		&cli.StringFlag{Name: "log-format", Value: "text", Usage: "text or json"},
		&cli.DurationFlag{Name: "drain-timeout", Value: 2 * time.Minute, Usage: "what the end may take until requests are cut off"},
	}
}

// queueFlags bound what waits and what is computed at once.
func queueFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "queue", Value: 65536, Usage: "most `ITEMS` (pairs, pictures, texts) that wait"},
		&cli.StringFlag{Name: "queue-bytes", Value: "1GiB", Usage: "most `BYTES` of pictures and texts in memory"},
		&cli.DurationFlag{Name: "latency-budget", Value: 2 * time.Millisecond, Usage: "how long an idle device waits for a request that is being read, to compute it in the same batch"},
		&cli.DurationFlag{Name: "timeout", Value: 2 * time.Minute, Usage: "of a request that has no deadline of its own"},
		&cli.IntFlag{Name: "max-batch-images", Value: 32, Usage: "most `PICTURES` of a batch"},
		&cli.IntFlag{Name: "max-batch-pairs", Value: 1024, Usage: "most `PAIRS` of a batch"},
		&cli.IntFlag{Name: "max-batch-tokens", Value: 16384, Usage: "most `TOKENS` of the texts of a batch"},
		&cli.DurationFlag{Name: "max-batch-time", Value: 2 * time.Second, Usage: "most time of a batch, by the speed so far"},
	}
}

// requestFlags bound a request.
func requestFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "max-images", Value: 4096, Usage: "most `PICTURES` of a request"},
		&cli.IntFlag{Name: "max-texts", Value: 16384, Usage: "most `TEXTS` of a request"},
		&cli.IntFlag{Name: "max-text-bytes", Value: 64 << 10, Usage: "most `BYTES` of a text"},
		&cli.StringFlag{Name: "max-body-bytes", Value: "128MiB", Usage: "most `BYTES` of a request"},
		&cli.Uint64Flag{Name: "image-pixels-max", Value: 64 << 20, Usage: "most `PIXELS` of a picture"},
		&cli.Uint64Flag{Name: "image-bytes-max", Value: 32 << 20, Usage: "most `BYTES` of a picture's file"},
		&cli.BoolFlag{Name: "allow-fetch", Usage: "pictures may be URLs of public hosts, which the server fetches"},
		&cli.StringFlag{Name: "default-reward", Usage: "`NAME` of the reward of pickled requests that name none (default: the first)"},
	}
}

// rewardServer is a running serve command.
type rewardServer struct {
	con *console
	c   *cli.Context
	cfg api.Config
	log *slog.Logger

	core *serve.Server
	end  context.CancelFunc // begins the end

	reloading sync.Mutex // held during a reload

	mu     sync.Mutex
	models models // that new requests are computed with
}

func serveModels(con *console, c *cli.Context) error {
	r := &rewardServer{con: con, c: c}
	opt, err := r.options()
	if err != nil {
		return err
	}
	var ended context.Context
	ended, r.end = context.WithCancel(c.Context)
	defer r.end()
	if r.cfg.Tracing, err = openTracing(c); err != nil {
		return err
	}
	r.cfg.Metrics = api.NewMetrics()
	opt.Observer = api.Observers(r.cfg.Metrics, r.cfg.Tracing)

	backend, models, err := r.open()
	if err != nil {
		return err
	}
	r.models = models
	r.core = serve.New(backend, opt)
	defer r.close()
	protocols, err := r.protocols()
	if err != nil {
		return err
	}
	if err := r.core.Ready(ended); err != nil {
		return err
	}
	r.cfg.Metrics.Watch(r.core)
	r.cfg.Metrics.WatchCache(r.embeddingCaches)
	listeners, err := r.listen(protocols)
	if err != nil {
		return err
	}
	return r.run(ended, listeners)
}

// options reads the flags.
func (r *rewardServer) options() (serve.Options, error) {
	c := r.c
	limits := imageLimits(c)
	opt := serve.Options{
		MaxBatchImages: c.Int("max-batch-images"), MaxBatchPairs: c.Int("max-batch-pairs"), MaxBatchTokens: c.Int("max-batch-tokens"),
		MaxBatchTime: c.Duration("max-batch-time"), LatencyBudget: c.Duration("latency-budget"), QueueItems: c.Int("queue"), Timeout: c.Duration("timeout"),
		MaxImages: c.Int("max-images"), MaxTexts: c.Int("max-texts"), MaxTextBytes: c.Int("max-text-bytes"),
		MaxImageBytes: int64(limits.BytesMax),
	}
	if opt.LatencyBudget == 0 {
		opt.LatencyBudget = -1 // the core takes 0 for its default
	}
	for _, name := range []string{"queue", "max-batch-images", "max-batch-pairs", "max-batch-tokens", "max-images", "max-texts", "max-text-bytes"} {
		if n := c.Int(name); n < 1 {
			return opt, usagef("--%s %d: expected a number >= 1", name, n)
		}
	}
	for _, name := range []string{"timeout", "max-batch-time", "drain-timeout"} {
		if d := c.Duration(name); d <= 0 {
			return opt, usagef("--%s %v: expected a time above 0", name, d)
		}
	}
	var err error
	if opt.QueueBytes, err = parseBytes(c.String("queue-bytes")); err != nil {
		return opt, usagef("--queue-bytes %s: %v", c.String("queue-bytes"), err)
	}
	if r.log, err = r.logger(); err != nil {
		return opt, err
	}
	opt.Logger = r.log
	return opt, r.readConfig(limits)
}

// readConfig reads the flags of listeners.
func (r *rewardServer) readConfig(limits engine.ImageLimits) (err error) {
	c := r.c
	r.cfg = api.Config{
		Listen: c.String("listen"), GRPC: c.String("grpc"), Admin: c.String("admin"), AllowFetch: c.Bool("allow-fetch"),
		MaxImageBytes: int64(limits.BytesMax), MaxImagePixels: limits.PixelsMax, Logger: r.log,
	}
	if r.cfg.MaxBodyBytes, err = parseBytes(c.String("max-body-bytes")); err != nil {
		return usagef("--max-body-bytes %s: %v", c.String("max-body-bytes"), err)
	}
	r.cfg.MaxBodyBytesAll = max(1<<30, 4*r.cfg.MaxBodyBytes)
	if path := c.String("api-keys"); path != "" {
		if r.cfg.Keys, err = api.OpenKeys(path); err != nil {
			return fmt.Errorf("--api-keys: %w", err)
		}
	}
	cert, key, ca := c.String("tls-cert"), c.String("tls-key"), c.String("client-ca")
	switch {
	case (cert == "") != (key == ""):
		return usagef("--tls-cert and --tls-key: expected both or neither")
	case cert == "" && ca != "":
		return usagef("--client-ca: expected --tls-cert and --tls-key as well")
	case cert != "":
		r.cfg.TLS, err = api.OpenCertificates(cert, key, ca)
	}
	return err
}

// logger returns what the server logs with: lines on stderr.
func (r *rewardServer) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(r.c.String("log-level"))); err != nil {
		return nil, usagef("--log-level %s: expected debug, info, warn or error", r.c.String("log-level"))
	}
	opt := &slog.HandlerOptions{Level: level}
	switch r.c.String("log-format") {
	case "text":
		return slog.New(slog.NewTextHandler(conWriter{r.con}, opt)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(conWriter{r.con}, opt)), nil
	}
	return nil, usagef("--log-format %s: expected text or json", r.c.String("log-format"))
}

// conWriter writes to stderr, a line at a time.
type conWriter struct{ con *console }

func (w conWriter) Write(line []byte) (int, error) {
	w.con.mu.Lock()
	defer w.con.mu.Unlock()
	return w.con.err.Write(line)
}

// openTracing returns what sends traces, nil where nobody wants them.
func openTracing(c *cli.Context) (*api.Tracing, error) {
	if c.String("otlp-endpoint") == "" {
		return nil, nil
	}
	return api.OpenTracing(c.Context, c.String("otlp-endpoint"))
}

// open opens the models that the flags name.
func (r *rewardServer) open() (serve.Backend, models, error) {
	bar := r.con.progress()
	defer bar.done()
	models, err := r.con.openModels(r.c, modelSpecs(r.c), bar, nil)
	if err != nil {
		return nil, nil, err
	}
	backend, err := serve.NewBackend(models)
	return backend, models, err
}

// protocols reads the flags that depend on the rewards.
func (r *rewardServer) protocols() (protocol.Options, error) {
	opt := protocol.Options{Version: engine.Version, DefaultReward: r.c.String("default-reward")}
	rewards := r.core.Rewards()
	if opt.DefaultReward != "" && !slices.Contains(rewards, opt.DefaultReward) {
		return opt, usagef("--default-reward %s: expected one of %s", opt.DefaultReward, strings.Join(rewards, ", "))
	}
	var err error
	if opt.Scales, err = scales(r.c); err != nil {
		return opt, err
	}
	if err := opt.Scales.Check(rewards); err != nil {
		return opt, usageError{"--" + err.Error()}
	}
	return opt, nil
}

// listener is one address that is served: run answers until stop, which lets what runs end as long as its context holds.
type listener struct {
	what string
	addr net.Addr
	run  func() error
	stop func(context.Context) error
}

// listen opens all addresses.
func (r *rewardServer) listen(opt protocol.Options) ([]listener, error) {
	routes := append(protocol.Routes(r.core, opt), web.Routes()...)
	h, err := api.Listen(r.cfg.Listen, api.Handler(r.core, r.cfg, routes...), r.cfg)
	if err != nil {
		return nil, err
	}
	all := []listener{{"HTTP", h.Addr(), h.Serve, h.Shutdown}}
	if r.cfg.Admin != "" {
		hooks := api.AdminHooks{Reload: r.reload, Drain: r.end, OpProfile: r.opProfile}
		h, err := api.ListenAdmin(r.cfg.Admin, api.AdminHandler(r.core, r.cfg, hooks), r.cfg)
		if err != nil {
			return nil, err
		}
		all = append(all, listener{"admin", h.Addr(), h.Serve, h.Shutdown})
	}
	if r.cfg.GRPC != "" {
		l, err := r.listenGRPC(opt)
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

func (r *rewardServer) listenGRPC(opt protocol.Options) (listener, error) {
	l, err := net.Listen("tcp", r.cfg.GRPC)
	if err != nil {
		return listener{}, fmt.Errorf("gRPC: %w", err)
	}
	options := protocol.GRPCOptions{Options: opt, MaxMessageBytes: int(r.cfg.MaxBodyBytes), Watch: api.Calls(r.cfg, protocol.IsProbe)}
	if r.cfg.Keys != nil {
		options.Authenticate = r.cfg.Keys.Authenticate
	}
	if r.cfg.TLS != nil {
		options.Credentials = credentials.NewTLS(r.cfg.TLS.Config())
	}
	server := protocol.GRPC(r.core, options)
	return listener{"gRPC", l.Addr(), func() error { return server.Serve(l) }, func(ctx context.Context) error { return stopGRPC(ctx, server) }}, nil
}

// stopGRPC lets the calls of a server end, and cuts them off when ctx ends.
func stopGRPC(ctx context.Context, server *grpc.Server) error {
	cut := context.AfterFunc(ctx, server.Stop)
	defer cut()
	server.GracefulStop()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("gRPC: %w", err)
	}
	return nil
}

// run answers until ended ends or an address fails, and then ends in order: nothing new is accepted, what was accepted
// is answered, listeners close.
func (r *rewardServer) run(ended context.Context, listeners []listener) error {
	group, ctx := errgroup.WithContext(ended)
	for _, l := range listeners {
		r.log.Info("listening", "for", l.what, "address", l.addr.String())
		group.Go(l.run)
	}
	r.log.Info("ready", "rewards", strings.Join(r.core.Rewards(), ","), "version", engine.Version)
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for ctx.Err() == nil {
		select {
		case <-hangups:
			if err := r.reload(ctx); err != nil {
				r.log.Error("reload", "error", err)
			}
		case <-ctx.Done():
		}
	}
	r.log.Info("draining", "requests", r.core.Stats().Requests)
	limit, cancel := context.WithTimeout(context.Background(), r.c.Duration("drain-timeout"))
	defer cancel()
	err := r.core.Drain(limit)
	for _, l := range slices.Backward(listeners) { // HTTP last: it tells of the end until it comes
		err = errors.Join(err, l.stop(limit))
	}
	return errors.Join(err, group.Wait())
}

// close ends the core, which closes the models, and sends what traces are left. Neither may keep the process.
func (r *rewardServer) close() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.core.Close(); err != nil {
			r.log.Error("closing", "error", err)
		}
	}()
	limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := r.cfg.Tracing.Shutdown(limit); err != nil {
		r.log.Warn("traces were lost", "error", err)
	}
	select {
	case <-done:
		r.con.logEmbeddingCache(r.models)
	case <-limit.Done():
		r.log.Error("the device does not answer: it is left as it is")
	}
}

// reload reads keys, certificates and models again. What fails stays as it was.
func (r *rewardServer) reload(ctx context.Context) error {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	var err error
	if r.cfg.Keys != nil {
		err = r.cfg.Keys.Reload()
	}
	if r.cfg.TLS != nil {
		err = errors.Join(err, r.cfg.TLS.Reload())
	}
	backend, models, openErr := r.open()
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	if reloadErr := r.core.Reload(ctx, backend); reloadErr != nil {
		return errors.Join(err, reloadErr)
	}
	r.mu.Lock()
	r.models = models
	r.mu.Unlock()
	r.log.Info("reloaded", "rewards", strings.Join(r.core.Rewards(), ","))
	return err
}

// current returns the models that new requests are computed with, by the names under which they are served.
func (r *rewardServer) current() map[string]*engine.Model {
	r.mu.Lock()
	defer r.mu.Unlock()
	named := map[string]*engine.Model{}
	for i, info := range r.core.Models() {
		if i < len(r.models) { // a reload may be under way
			named[info.Name] = r.models[i]
		}
	}
	return named
}

func (r *rewardServer) embeddingCaches() map[string]engine.EmbeddingCacheStats {
	stats := map[string]engine.EmbeddingCacheStats{}
	for name, m := range r.current() {
		stats[name] = m.EmbeddingCacheStats()
	}
	return stats
}

// opProfile records the ops of all models for a time. They compute op by op meanwhile, which is slower.
func (r *rewardServer) opProfile(ctx context.Context, d time.Duration, w io.Writer) error {
	models, began := r.current(), time.Now()
	for _, m := range models {
		m.SetProfile(true)
		defer m.SetProfile(false)
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
		return ctx.Err()
	}
	var recordings []profile.Recording
	for name, m := range models {
		recordings = append(recordings, profile.Recording{Model: name, Samples: m.Profile()})
	}
	return profile.Write(w, recordings, began)
}
