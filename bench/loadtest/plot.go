package loadtest

import (
	"bytes"
	"cmp"
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// palette is that of Okabe and Ito, which people with colour blindness can tell apart, without its yellow.
var palette = []color.Color{
	color.RGBA{0, 114, 178, 255}, color.RGBA{213, 94, 0, 255}, color.RGBA{0, 158, 115, 255},
	color.RGBA{204, 121, 167, 255}, color.RGBA{86, 180, 233, 255}, color.RGBA{230, 159, 0, 255},
}

const (
	plotWidth  = 16 * vg.Centimeter
	plotHeight = 9 * vg.Centimeter
)

// series is a line or, with dots, a cloud of a plot.
type series struct {
	name   string
	points []point
	dots   bool
	dashed bool
}

// figure is a plot of a report.
type figure struct {
	title, x, y string
	series      []series
	logY        bool
	ticksX      plot.Ticker // nil: gonum's
}

// figures returns the plots of a report: those that have something to show.
func (r *Report) figures() []figure {
	var all []figure
	for _, open := range []bool{true, false} {
		all = append(all, r.loadFigures(open)...)
	}
	curves := figure{title: "Latency by share of answers", x: "share of answers", y: "latency, ms", logY: true, ticksX: nines{}}
	times := figure{title: "Latency over time", x: "s after the warm-up", y: "latency, ms", logY: true}
	longest := 0.0
	for _, s := range r.Steps {
		if len(s.curve) > 0 {
			curves.series = append(curves.series, series{name: s.Name, points: s.curve})
			longest = max(longest, s.curve[len(s.curve)-1].x)
			times.series = append(times.series, series{name: s.Name, points: s.samples, dots: true})
		}
	}
	if len(curves.series) == 0 {
		return all
	}
	slo := func(to float64) series {
		return series{name: "SLO", points: []point{{0, r.SLOMS}, {to, r.SLOMS}}, dashed: true}
	}
	curves.series = append(curves.series, slo(longest))
	times.series = append(times.series, slo(r.Steps[0].Seconds))
	return append(all, curves, times)
}

// loadFigures draws latency and answers over the load of the open or of the closed loops, where there are two or more.
func (r *Report) loadFigures(open bool) []figure {
	x := "requests at a time"
	if open {
		x = "requests/s sent"
	}
	latency := figure{title: "Latency by load", x: x, y: "latency, ms", logY: true}
	answers := figure{title: "Answers by load", x: x, y: "1/s"}
	var p50, p99, whole, good, sent []point
	for _, s := range r.Steps {
		load := float64(s.Concurrency)
		if s.Loop == "open" {
			load = s.RatePS
		}
		if (s.Loop == "open") != open {
			continue
		}
		whole, good = append(whole, point{load, s.AnswersPS}), append(good, point{load, s.GoodputPS})
		sent = append(sent, point{load, float64(s.Sent) / s.Seconds})
		if s.Answered > 0 {
			p50, p99 = append(p50, point{load, s.Latency.P50}), append(p99, point{load, s.Latency.P99})
		}
	}
	if len(whole) < 2 || len(p50) < 2 {
		return nil
	}
	for _, points := range [][]point{p50, p99, whole, good, sent} {
		slices.SortStableFunc(points, func(a, b point) int { return cmp.Compare(a.x, b.x) }) // a search goes to and fro
	}
	slo := []point{{whole[0].x, r.SLOMS}, {whole[len(whole)-1].x, r.SLOMS}}
	latency.series = []series{{name: "p50", points: p50}, {name: "p99", points: p99}, {name: "SLO", points: slo, dashed: true}}
	answers.series = []series{{name: "answers", points: whole}, {name: "within the SLO", points: good}}
	if open {
		answers.series = append(answers.series, series{name: "sent", points: sent, dashed: true})
	}
	return []figure{latency, answers}
}

// svg draws the figure.
func (f *figure) svg() ([]byte, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = f.title, f.x, f.y
	p.Title.TextStyle.Font = textFont(12)
	p.Legend.TextStyle.Font = textFont(9)
	p.Legend.Top, p.Legend.Left = true, true
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Label.TextStyle.Font, axis.Tick.Label.Font = textFont(10), textFont(9)
	}
	if f.logY {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: 4}
	}
	if f.ticksX != nil {
		p.X.Tick.Marker = f.ticksX
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{225}, color.Gray{225}
	p.Add(grid)
	for i, s := range f.series {
		if err := f.add(p, s, i); err != nil {
			return nil, fmt.Errorf("%s, %s: %w", f.title, s.name, err)
		}
	}
	if p.Y.Max *= 1.3; f.logY { // room for the legend
		p.Y.Max *= 2
	} else {
		p.Y.Min = 0
	}
	canvas := vgsvg.New(plotWidth, plotHeight)
	p.Draw(draw.New(canvas))
	var b bytes.Buffer
	_, err := canvas.WriteTo(&b)
	return b.Bytes(), err
}

// add draws one series with its line in the legend.
func (f *figure) add(p *plot.Plot, s series, i int) error {
	points := make(plotter.XYs, 0, len(s.points))
	for _, v := range s.points {
		if !f.logY || v.y > 0 {
			points = append(points, plotter.XY{X: v.x, Y: v.y})
		}
	}
	if len(points) == 0 {
		return nil
	}
	shade := palette[i%len(palette)]
	if s.dots {
		cloud, err := plotter.NewScatter(points)
		if err != nil {
			return err
		}
		cloud.GlyphStyle = draw.GlyphStyle{Color: shade, Radius: vg.Points(1), Shape: draw.CircleGlyph{}}
		p.Add(cloud)
		p.Legend.Add(s.name, cloud)
		return nil
	}
	line, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	line.LineStyle = draw.LineStyle{Color: shade, Width: vg.Points(1.5)}
	if s.dashed {
		line.Color, line.Dashes = color.Gray{110}, []vg.Length{vg.Points(5), vg.Points(2.5)}
	}
	p.Add(line)
	p.Legend.Add(s.name, line)
	return nil
}

func textFont(points float64) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: vg.Points(points)}
}

// nines marks an axis of numbers of nines with the shares that they are: 1 is 90 %, 2 is 99 %.
type nines struct{}

// Ticks implements plot.Ticker.
func (nines) Ticks(lo, hi float64) []plot.Tick {
	ticks := []plot.Tick{{Value: 0, Label: "0 %"}, {Value: math.Log10(2), Label: "50 %"}}
	for n := 1.0; n <= hi; n++ {
		ticks = append(ticks, plot.Tick{Value: n, Label: strconv.FormatFloat(100-100*math.Pow(10, -n), 'g', 10, 64) + " %"})
	}
	return ticks
}
