// Command tia2-engine embeds pictures and texts, scores how well pictures show their prompts, and measures how well
// such scores agree with people and how fast they are computed.
//
// Each command is one file here and only translates between the command line and the packages engine and bench.
// Results go to stdout or --out, errors to stderr as "tia2-engine: what: why". Exit status: 0 done, 1 the work or some
// items failed, 2 wrong usage.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first Ctrl-C ends the work and keeps what is finished; a second one, no longer caught, ends the process.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], stdio{in: os.Stdin, out: os.Stdout, err: os.Stderr}))
}
