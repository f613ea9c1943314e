package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/tia2-engine/tia2-engine/engine"
)

func tokenizeCommand(con *console) *cli.Command {
	return &cli.Command{
		Name:        "tokenize",
		Usage:       "turn texts into token ids",
		ArgsUsage:   "[FILE.jsonl]",
		Description: `Reads lines {"text":…} from FILE or stdin and writes them with "ids":[…] added, from the first special token to the last.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "tokenizer", Value: "clip", Usage: strings.Join(engine.TokenizerNames(), ", ")},
			&cli.IntFlag{Name: "max-length", Usage: "cut to this many ids, special ones included", DefaultText: "nothing is cut"},
			outFlag("`FILE` for the result (default: stdout)"),
		},
		Action: func(c *cli.Context) error { return tokenize(con, c) },
	}
}

func tokenize(con *console, c *cli.Context) error {
	if err := requireArgs(c, 0, 1, "at most one file"); err != nil {
		return err
	}
	length := c.Int("max-length")
	if c.IsSet("max-length") && length < 2 {
		return usagef("--max-length %d: expected 2 or more, for the special tokens", length)
	}
	tokenizer, err := engine.NewTokenizer(c.String("tokenizer"))
	if err != nil {
		return usagef("--tokenizer: %s", trimPrefix(err))
	}
	in, name := con.in, "stdin"
	if path := c.Args().First(); path != "" && path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		in, name = f, path
	}
	var failed error
	err = con.output(c, func(w io.Writer) error {
		return eachLine(c.Context, in, func(number int, line []byte) error {
			out, err := tokenizeLine(tokenizer, line, length)
			if err != nil {
				con.warnf("%s:%d: %s", name, number, trimPrefix(err))
				failed = errReported
				return nil
			}
			_, err = w.Write(append(out, '\n'))
			return err
		})
	})
	return errors.Join(failed, err)
}

// tokenizeLine returns the line's object with its ids. What else it holds stays as it is.
func tokenizeLine(tokenizer *engine.Tokenizer, line []byte, length int) ([]byte, error) {
	var in struct {
		Text *string         `json:"text"`
		IDs  json.RawMessage `json:"ids"`
	}
	if err := json.Unmarshal(line, &in); err != nil {
		return nil, fmt.Errorf("expected a JSON object: %w", err)
	}
	if in.Text == nil {
		return nil, errors.New(`expected {"text":"…"}`)
	}
	ids, err := tokenizer.Encode(*in.Text, length)
	if err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	if in.IDs != nil { // replaced: a second key of that name would be read differently by different programs
		var all map[string]json.RawMessage
		if err := json.Unmarshal(line, &all); err != nil {
			return nil, err
		}
		all["ids"] = encoded
		return json.Marshal(all)
	}
	body := bytes.TrimSuffix(bytes.TrimSpace(line), []byte("}"))
	return append(append(append(body[:len(body):len(body)], `,"ids":`...), encoded...), '}'), nil
}

// lineBytesMax is the longest line that is read.
const lineBytesMax = 64 << 20

// eachLine calls f with every line that is not empty, and its number from 1, one line in memory at a time.
func eachLine(ctx interface{ Err() error }, r io.Reader, f func(number int, line []byte) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), lineBytesMax)
	number := 1
	for ; s.Scan(); number++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if line := bytes.TrimSpace(s.Bytes()); len(line) > 0 {
			if err := f(number, line); err != nil {
				return err
			}
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("line %d: %w", number, err)
	}
	return nil
}
