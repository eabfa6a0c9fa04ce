package statusserver

import (
	"fmt"
	"math"
	"strings"
)

const (
	chartWidth  = 240.0
	chartHeight = 56.0
)

// chart draws values over the last hour, missing where they are NaN, as SVG: an area
// below a line, from 0 to top.
func chart(values []float64, top float64, label string) markup {
	var line, area strings.Builder
	step := chartWidth / float64(len(values)-1)
	begun := -1
	end := func(i int) {
		if begun >= 0 {
			fmt.Fprintf(&area, "L%.1f %.0fL%.1f %.0fZ", float64(i)*step, chartHeight, float64(begun)*step, chartHeight)
		}
		begun = -1
	}
	for i, v := range values {
		if math.IsNaN(v) {
			end(i - 1)
			continue
		}
		x, y := float64(i)*step, chartHeight-min(1, v/top)*(chartHeight-3)
		if begun < 0 {
			begun = i
			fmt.Fprintf(&line, "M%.1f %.1fh0.1", x, y) // a point alone is visible
			fmt.Fprintf(&area, "M%.1f %.1f", x, y)
			continue
		}
		fmt.Fprintf(&line, "L%.1f %.1f", x, y)
		fmt.Fprintf(&area, "L%.1f %.1f", x, y)
	}
	end(len(values) - 1)
	var h htmlBuilder
	h.add(`<svg viewBox="0 0 %v %v" preserveAspectRatio="none" role="img" aria-label="%v"><path class="area" d="%v"/><path class="line" d="%v"/></svg>`,
		chartWidth, chartHeight, label, area.String(), line.String())
	return h.markup()
}

// highest is the highest value that is known.
func highest(values []float64) float64 {
	most := 0.0
	for _, v := range values {
		if v > most { // never NaN
			most = v
		}
	}
	return most
}

// roundUp is the next of 1, 2, 5, 10, 20 … that is at least v and least.
func roundUp(v, least float64) float64 {
	v = max(v, least)
	for unit := math.Pow(10, math.Floor(math.Log10(v))); ; unit *= 10 {
		for _, n := range []float64{1, 2, 5} {
			if n*unit >= v {
				return n * unit
			}
		}
	}
}
