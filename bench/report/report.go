// Package report renders results as the --format flag asks: a table for people, JSON, CSV or Markdown.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Table is a result as rows of cells. Its fields are those of every table type of bench, so they convert to it.
type Table struct {
	Title   string
	Header  []string // names numbers with their unit
	Numeric []bool   // which columns hold numbers, to be set flush right; may be shorter than Header
	Rows    [][]string
}

// Formats are the values of --format.
var Formats = []string{"table", "json", "csv", "markdown"}

// CheckFormat returns an error that names the formats there are, unless format is one of them.
func CheckFormat(format string) error {
	if slices.Contains(Formats, format) {
		return nil
	}
	return fmt.Errorf("format %q: expected one of %s", format, strings.Join(Formats, ", "))
}

// Write writes value as indented JSON, or the tables one after another in any other format.
func Write(w io.Writer, format string, value any, tables ...Table) error {
	if err := CheckFormat(format); err != nil {
		return err
	}
	if format == "json" {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(value)
	}
	for i, t := range tables {
		if i > 0 {
			if _, err := io.WriteString(w, "\n"); err != nil {
				return err
			}
		}
		if _, err := io.WriteString(w, t.Render(format)+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// Render returns t as a text table, as "csv" or as "markdown", without a newline at the end. CSV leaves the title out.
func (t Table) Render(format string) string {
	w := table.NewWriter()
	w.SetStyle(style())
	w.SuppressTrailingSpaces()
	w.AppendHeader(row(t.Header))
	for _, r := range t.Rows {
		w.AppendRow(row(r))
	}
	var columns []table.ColumnConfig
	for i, numeric := range t.Numeric {
		if numeric {
			columns = append(columns, table.ColumnConfig{Number: i + 1, Align: text.AlignRight, AlignHeader: text.AlignRight})
		}
	}
	w.SetColumnConfigs(columns)
	switch format {
	case "csv":
		return w.RenderCSV()
	case "markdown":
		if t.Title == "" {
			return w.RenderMarkdown()
		}
		return "**" + t.Title + "**\n\n" + w.RenderMarkdown()
	}
	if t.Title == "" {
		return w.Render()
	}
	return t.Title + "\n" + w.Render()
}

// style is columns apart by two spaces, with a line under the header: it reads well and greps well.
func style() table.Style {
	s := table.StyleDefault
	s.Format.Header = text.FormatDefault
	s.Box.PaddingLeft, s.Box.PaddingRight = "", "  "
	s.Options = table.Options{SeparateHeader: true}
	return s
}

func row(cells []string) table.Row {
	r := make(table.Row, len(cells))
	for i, c := range cells {
		r[i] = c
	}
	return r
}
