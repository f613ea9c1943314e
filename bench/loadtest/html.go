package loadtest

import (
	"html/template"
	"io"
	"strings"

	"github.com/tia2-engine/tia2-engine/bench/report"
)

// page is the report for a browser: one file without anything outside of it.
var page = template.Must(template.New("loadtest").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Load test of {{.Target}}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: bold }
th, td { padding: .2em .7em; text-align: left; white-space: nowrap; border-bottom: 1px solid #ddd }
.n { text-align: right }
.bad { color: #a30000 }
figure { display: inline-block; margin: 1em 1em 1em 0 }
svg { max-width: 100%; height: auto }
.wide { overflow-x: auto }
</style>
<h1>Load test</h1>
<p>{{.Heading}}. {{.Started}}</p>
{{range .Failures}}<p class="bad">{{.}}</p>
{{end}}{{range .Tables}}<div class="wide"><table>
<caption>{{.Title}}</caption>
<tr>{{range .Header}}<th{{if .Numeric}} class="n"{{end}}>{{.Text}}</th>{{end}}</tr>
{{range .Rows}}<tr>{{range .}}<td{{if .Numeric}} class="n"{{end}}>{{.Text}}</td>{{end}}</tr>
{{end}}</table></div>
{{end}}<ul>
{{range .Remarks}}<li>{{.}}</li>
{{end}}</ul>
{{range .Figures}}<figure>{{.}}</figure>
{{end}}</html>
`))

// cell is a cell of a table of the page.
type cell struct {
	Text    string
	Numeric bool
}

type htmlTable struct {
	Title  string
	Header []cell
	Rows   [][]cell
}

// WriteHTML writes the report as a page with plots.
func (r *Report) WriteHTML(w io.Writer) error {
	var figures []template.HTML
	all := r.figures()
	for i := range all {
		svg, err := all[i].svg()
		if err != nil {
			return err
		}
		_, body, _ := strings.Cut(string(svg), "?>") // the XML declaration is none of HTML's
		figures = append(figures, template.HTML(body))
	}
	var tables []htmlTable
	for _, t := range r.Tables() {
		tables = append(tables, tableOf(t))
	}
	return page.Execute(w, map[string]any{
		"Target": r.Target, "Heading": r.Heading(), "Started": r.Started.Format("2006-01-02 15:04 MST"), "Failures": r.Failures(),
		"Tables": tables, "Remarks": r.Remarks(), "Figures": figures,
	})
}

func tableOf(t report.Table) htmlTable {
	row := func(texts []string) []cell {
		cells := make([]cell, len(texts))
		for i, text := range texts {
			cells[i] = cell{text, i < len(t.Numeric) && t.Numeric[i]}
		}
		return cells
	}
	out := htmlTable{Title: t.Title, Header: row(t.Header)}
	for _, texts := range t.Rows {
		out.Rows = append(out.Rows, row(texts))
	}
	return out
}
