package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"

	"github.com/tia2-engine/tia2-engine/bench/report"
	"github.com/tia2-engine/tia2-engine/engine"
)

// Exit statuses.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// stdio is what a command reads and writes; the tests give their own.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// usageError is a mistake on the command line.
type usageError struct{ msg string }

func (e usageError) Error() string { return e.msg }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// errReported means that some items failed, each was named on stderr, and the rest was done.
var errReported = errors.New("some items failed")

// run executes the command that args (without the program's name) ask for and returns the exit status.
func run(ctx context.Context, args []string, std stdio) int {
	app := newApp(&console{stdio: std})
	err := app.RunContext(ctx, append([]string{app.Name}, permute(app, args)...))
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		fmt.Fprintf(std.err, "tia2-engine: %s\n", usage.msg)
		fmt.Fprintln(std.err, "Try tia2-engine COMMAND --help.")
		return exitUsage
	}
	printError(std.err, err)
	return exitFailed
}

// printError writes err, which may be several joined ones, one a line, without what was reported already.
func printError(w io.Writer, err error) {
	for _, line := range strings.Split(err.Error(), "\n") {
		if line == errReported.Error() {
			continue
		}
		if strings.HasSuffix(line, context.Canceled.Error()) {
			line = "interrupted"
		}
		fmt.Fprintf(w, "tia2-engine: %s\n", strings.TrimPrefix(line, "tia2: "))
	}
}

// trimPrefix takes the library's name from the front of its error, where the program's stands before it.
func trimPrefix(err error) string { return strings.TrimPrefix(err.Error(), "tia2: ") }

func newApp(con *console) *cli.App {
	app := &cli.App{
		Name:      "tia2-engine",
		Usage:     "reward models for text-to-image: embed, score, calibrate, and measure how well they agree with people",
		UsageText: "tia2-engine COMMAND [flags] [arguments]",
		Reader:    con.in, Writer: con.out, ErrWriter: con.err,
		HideVersion:               true,
		DisableSliceFlagSeparator: true, // file names may hold commas
		ExitErrHandler:            func(*cli.Context, error) {},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("no command %q: expected one of %s", c.Args().First(), strings.Join(commandNames(c.App), ", "))
			}
			return cli.ShowAppHelp(c)
		},
	}
	app.Commands = []*cli.Command{
		benchCommand(con), embedCommand(con), scoreCommand(con), evalCommand(con), convertCommand(con), quantizeCommand(con),
		inspectCommand(con), pullCommand(con), tokenizeCommand(con), preprocessCommand(con), devicesCommand(con),
		serveCommand(con), loadtestCommand(con), versionCommand(con),
	}
	onUsage := func(_ *cli.Context, err error, _ bool) error { return usageError{err.Error()} }
	app.OnUsageError = onUsage
	for _, cmd := range app.Commands {
		cmd.OnUsageError = onUsage
		cmd.HideHelpCommand = true
		cmd.Flags = append(cmd.Flags, processFlags()...)
		cmd.Action = con.wrap(cmd.Action)
	}
	return app
}

func commandNames(app *cli.App) []string {
	var names []string
	for _, cmd := range app.VisibleCommands() {
		if cmd.Name != "help" {
			names = append(names, cmd.Name)
		}
	}
	return names
}

// permute moves the flags of a command before its other arguments, so that they may stand anywhere, as with most
// programs; the flag package, below urfave/cli, stops at the first argument that is no flag.
func permute(app *cli.App, args []string) []string {
	if len(args) == 0 || app.Command(args[0]) == nil {
		return args
	}
	takesValue := map[string]bool{}
	for _, f := range app.Command(args[0]).Flags {
		_, isBool := f.(*cli.BoolFlag)
		for _, name := range f.Names() {
			takesValue[name] = !isBool
		}
	}
	var flags, rest []string
	for i := 1; i < len(args); i++ {
		a := args[i]
		name := strings.TrimLeft(a, "-")
		switch {
		case a == "--":
			rest = append(rest, args[i+1:]...)
			i = len(args)
		case a == "-" || !strings.HasPrefix(a, "-"):
			rest = append(rest, a)
		case takesValue[name] && i+1 < len(args):
			flags = append(flags, a, args[i+1])
			i++
		default:
			flags = append(flags, a)
		}
	}
	return slices.Concat(args[:1], flags, []string{"--"}, rest)
}

// console is how a command speaks with the user.
type console struct {
	stdio
	verbose bool
	mu      sync.Mutex // of stderr
}

// wrap does around every command what the flags common to all ask for.
func (con *console) wrap(action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) (err error) {
		con.verbose = c.Bool("verbose")
		if c.IsSet("format") {
			if err := report.CheckFormat(c.String("format")); err != nil {
				return usageError{"--" + err.Error()}
			}
		}
		if path := c.String("cpuprofile"); path != "" {
			f, err := os.Create(path)
			if err != nil {
				return fmt.Errorf("--cpuprofile: %w", err)
			}
			defer f.Close()
			if err := pprof.StartCPUProfile(f); err != nil {
				return fmt.Errorf("--cpuprofile: %w", err)
			}
			defer pprof.StopCPUProfile()
		}
		err = action(c)
		for _, line := range engine.DrainLog() {
			con.logf("%s", line)
		}
		return err
	}
}

// logf writes a line to stderr when -v was given.
func (con *console) logf(format string, args ...any) {
	if con.verbose {
		con.warnf(format, args...)
	}
}

// warnf writes a line to stderr.
func (con *console) warnf(format string, args ...any) {
	con.mu.Lock()
	defer con.mu.Unlock()
	fmt.Fprintf(con.err, "tia2-engine: "+format+"\n", args...)
}

// reportItems names the items of a batch that failed. It returns errReported for those, and any other error as it is.
func (con *console) reportItems(err error) error {
	items, err := engine.SplitItemErrors(err)
	if err != nil {
		return err
	}
	for _, item := range items {
		con.warnf("%s: %s", item.Name, trimPrefix(item.Err))
	}
	if len(items) > 0 {
		return errReported
	}
	return nil
}
