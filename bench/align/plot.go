package align

import (
	"fmt"
	"image/color"
	"io"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// palette is that of Okabe and Ito, which people with colour blindness can tell apart, without its yellow, and for more
// rewards than six four dark ones of Paul Tol's.
var palette = []color.Color{
	color.RGBA{0, 114, 178, 255}, color.RGBA{213, 94, 0, 255}, color.RGBA{0, 158, 115, 255},
	color.RGBA{204, 121, 167, 255}, color.RGBA{86, 180, 233, 255}, color.RGBA{230, 159, 0, 255},
	color.RGBA{136, 34, 85, 255}, color.RGBA{153, 153, 51, 255}, color.RGBA{51, 34, 136, 255}, color.RGBA{68, 170, 153, 255},
}

const (
	panelWidth  = 11 * vg.Centimeter
	panelHeight = 8 * vg.Centimeter // at least: a long legend makes it higher
	legendLine  = 5.2 * vg.Millimeter
	legendWidth = 5.5 * vg.Centimeter
	margin      = 3 * vg.Millimeter
)

// WritePlot draws the best-of-n curves, a panel for each set with one legend: the share of positive images among those
// that a score picks from n, for growing n. A curve that falls shows overoptimisation. A reward is dashed and its
// TextNorm solid in the same colour; the ideal and a random choice frame them. format is "svg" or "png".
func (r *Report) WritePlot(w io.Writer, format string) error {
	if len(r.Sets) == 0 {
		return fmt.Errorf("a report without sets has nothing to draw")
	}
	width, height := panelWidth*vg.Length(len(r.Sets))+legendWidth, max(panelHeight, legendLine*vg.Length(r.curves()))
	var canvas interface {
		vg.CanvasSizer
		io.WriterTo
	}
	switch format {
	case "svg":
		canvas = vgsvg.New(width, height)
	case "png":
		canvas = vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(160))}
	default:
		return fmt.Errorf(`plot format %q: want "svg" or "png"`, format)
	}
	whole := draw.New(canvas)
	key := plot.NewLegend()
	key.Top, key.Left, key.YPosition = true, true, draw.PosCenter
	key.TextStyle.Font = textFont(10)
	key.Padding = vg.Millimeter
	row := make([]*plot.Plot, len(r.Sets))
	listed := map[string]bool{}
	for i := range r.Sets {
		var err error
		if row[i], err = r.Sets[i].plot(&key, listed); err != nil {
			return fmt.Errorf("plot of set %s: %w", r.Sets[i].Set, err)
		}
	}
	tiles := draw.Tiles{Rows: 1, Cols: len(row), PadX: 2 * margin, PadTop: margin, PadBottom: margin, PadLeft: margin}
	panels := draw.Crop(whole, 0, -legendWidth, 0, 0)
	for i, c := range plot.Align([][]*plot.Plot{row}, tiles, panels)[0] {
		row[i].Draw(c)
	}
	key.Draw(draw.Crop(whole, width-legendWidth+margin, -margin, margin, -2*margin))
	_, err := canvas.WriteTo(w)
	return err
}

// curves counts the lines of the legend.
func (r *Report) curves() int {
	names := map[string]bool{"ideal": true, "random": true}
	for _, s := range r.Sets {
		for _, reward := range s.Rewards {
			names[reward.Name] = true
		}
	}
	return len(names)
}

func textFont(points float64) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: vg.Points(points)}
}

// curve is one line of a panel.
type curve struct {
	name   string
	values []Number
	style  draw.LineStyle
}

// plot draws the panel of one set and adds the names that are not listed yet to the legend.
func (s *SetReport) plot(key *plot.Legend, listed map[string]bool) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = s.Set
	p.Title.TextStyle.Font = textFont(12)
	p.Title.Padding = vg.Millimeter
	p.X.Label.Text = "n"
	p.Y.Label.Text = "positive share of the best of n"
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Label.TextStyle.Font, axis.Tick.Label.Font = textFont(10), textFont(9)
		axis.Padding = 0
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{225}, color.Gray{225}
	p.Add(grid)
	for _, c := range s.curves() {
		points := make(plotter.XYs, len(c.values))
		for n, v := range c.values {
			points[n] = plotter.XY{X: float64(n + 1), Y: float64(v)}
		}
		if len(points) == 0 {
			continue
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		line.LineStyle = c.style
		p.Add(line)
		if !listed[c.name] {
			listed[c.name] = true
			key.Add(c.name, line)
		}
	}
	p.X.Min = 1
	return p, nil
}

// curves returns the lines of the panel, the frame first.
func (s *SetReport) curves() []curve {
	gray := color.Gray{130}
	flat := make([]Number, len(s.BestOfNIdeal)) // a choice without any score stays at the share of positives
	for i := range flat {
		flat[i] = s.BestOfNIdeal[0]
	}
	curves := []curve{
		{"ideal", s.BestOfNIdeal, draw.LineStyle{Color: gray, Width: vg.Points(1)}},
		{"random", flat, draw.LineStyle{Color: gray, Width: vg.Points(1.2), Dashes: []vg.Length{vg.Points(1), vg.Points(2.5)}}},
	}
	colors := map[string]color.Color{}
	for _, reward := range s.Rewards {
		base := strings.TrimSuffix(reward.Name, textnormSuffix)
		if colors[base] == nil {
			colors[base] = palette[len(colors)%len(palette)]
		}
		style := draw.LineStyle{Color: colors[base], Width: vg.Points(1.8)}
		switch {
		case s.isEnsemble(reward.Name):
			style.Color = color.Black
			if reward.Name == ensemblePenalised {
				style.Dashes = []vg.Length{vg.Points(7), vg.Points(2), vg.Points(2), vg.Points(2)}
			}
		case s.isRaw(reward.Name):
			style.Width, style.Dashes = vg.Points(1.3), []vg.Length{vg.Points(5), vg.Points(2.5)}
		}
		curves = append(curves, curve{reward.Name, reward.BestOfN, style})
	}
	return curves
}
