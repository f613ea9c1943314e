package main

import (
	"bufio"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/tia2-engine/tia2-engine/bench/report"
	"github.com/tia2-engine/tia2-engine/internal/atomicfile"
)

// output calls write with stdout, or with the file of --out, which exists only if write succeeds.
func (con *console) output(c *cli.Context, write func(io.Writer) error) error {
	path := c.String("out")
	if path == "" || path == "-" {
		buf := bufio.NewWriter(con.out)
		if err := write(buf); err != nil {
			return err
		}
		return buf.Flush()
	}
	return con.writeFile(path, write)
}

// writeFile writes a file that exists only if write succeeds.
func (con *console) writeFile(path string, write func(io.Writer) error) error {
	f, err := atomicfile.Create(path)
	if err != nil {
		return err
	}
	defer f.Abort()
	buf := bufio.NewWriter(f)
	if err := write(buf); err != nil {
		return err
	}
	if err := buf.Flush(); err != nil {
		return err
	}
	return f.Commit()
}

// show writes a result in the format that --format asks for.
func (con *console) show(c *cli.Context, value any, tables ...report.Table) error {
	return con.output(c, func(w io.Writer) error { return report.Write(w, c.String("format"), value, tables...) })
}
