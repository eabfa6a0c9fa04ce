package statusserver

import (
	_ "embed"
	"fmt"
	"html"
	"strings"
)

// The page is written by hand: with html/template in it the linker keeps every method
// of every type, and the command has 14 MB more.

// markup is text that is HTML already.
type markup string

// An htmlBuilder builds HTML.
type htmlBuilder struct{ b strings.Builder }

// add writes format, in which %v stands for an argument. Text is escaped, so that it is
// text also within a quoted attribute; only markup is written as it is.
func (h *htmlBuilder) add(format string, args ...any) {
	for i, a := range args {
		if m, ok := a.(markup); ok {
			args[i] = string(m)
			continue
		}
		args[i] = html.EscapeString(fmt.Sprint(a))
	}
	fmt.Fprintf(&h.b, format, args...)
}

func (h *htmlBuilder) markup() markup { return markup(h.b.String()) }

//go:embed page.css
var pageStyle string

// markup is the page.
func (v view) markup() markup {
	var h htmlBuilder
	h.add(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
`)
	if v.Refresh > 0 {
		h.add("<meta http-equiv=\"refresh\" content=\"%v\">\n", v.Refresh)
	}
	mark := "▲"
	if v.Tone == "good" {
		mark = "●"
	}
	h.add("<title>%v %v – rigatoni</title>\n<style>\n%v</style>\n</head>\n<body>\n", mark, v.Pipeline, markup(pageStyle))
	h.add(`<header><h1>%v</h1><span class="badge %v">%v</span><small class="push">%v · up %v</small></header>`+"\n<main>\n",
		v.Pipeline, v.Tone, v.State, v.Now, v.Up)
	v.body(&h)
	h.add("</main>\n<footer><small>%v · ", v.Version)
	h.add(`<a href="/status">status as JSON</a> · <a href="/metrics">metrics</a> · <a href="/readyz">readyz</a> · `)
	if v.Refresh > 0 {
		h.add(`every %v seconds, <a href="?refresh=off">stop</a>`, v.Refresh)
	} else {
		h.add(`<a href="/">refresh by itself</a>`)
	}
	h.add("</small></footer>\n</body>\n</html>\n")
	return h.markup()
}

func (v view) body(h *htmlBuilder) {
	if len(v.Reasons) > 0 {
		h.add(`<ul class="reasons %v">`, v.Tone)
		for _, r := range v.Reasons {
			h.add("<li>%v</li>", r.String())
		}
		h.add("</ul>\n")
	}
	if len(v.Figures) > 0 {
		h.add(`<section class="card">%v</section>`+"\n", figuresMarkup(v.Figures))
	}
	for _, c := range v.Cards {
		c.markup(h)
	}
	if len(v.Cards) == 0 {
		h.add(`<section class="card"><p>There is nothing to show here.</p></section>` + "\n")
	}
	if v.Previous == "" && v.Next == "" {
		return
	}
	h.add("<nav>")
	if v.Previous != "" {
		h.add(`<a href="%v">← previous</a>`, v.Previous)
	}
	h.add("<small>streams %v to %v of %v, those that are not ready first</small>", v.From, v.To, grouped(v.Total))
	if v.Next != "" {
		h.add(`<a href="%v">next →</a>`, v.Next)
	}
	h.add("</nav>\n")
}

func (c card) markup(h *htmlBuilder) {
	h.add(`<section class="card %v-card"><div class="head"><h2>%v</h2><span class="badge %v">%v</span><small class="push">%v</small></div>`+"\n",
		c.Tone, c.Name, c.Tone, c.Phase, c.Lease)
	for _, r := range c.Reasons {
		h.add(`<p class="soft">%v: %v</p>`, r.Code, r.Text)
	}
	h.add(`<div class="plots">%v%v</div>%v`, c.Lag.markup(), c.Rate.markup(), figuresMarkup(c.Figures))
	if c.Snapshot != nil {
		c.Snapshot.markup(h)
	}
	if c.Gap != "" {
		h.add(`<p class="note"><b>Last gap:</b> %v</p>`, c.Gap)
	}
	if c.Error != "" {
		h.add(`<p class="note"><b>Last error</b>, %v</p>`, c.Error)
	}
	h.add("</section>\n")
}

func (c *copying) markup(h *htmlBuilder) {
	h.add(`<div class="note"><b>Snapshot under way:</b> %v`, c.Text)
	if c.Estimated > 0 {
		h.add(`<progress value="%v" max="%v"></progress>`, min(c.Documents, c.Estimated), c.Estimated)
	}
	h.add("<ul>")
	for _, one := range c.Collections {
		h.add("<li>%v <small>%v</small></li>", one.Name, one.Value)
	}
	if c.More > 0 {
		h.add("<li><small>and %v more</small></li>", grouped(c.More))
	}
	h.add("</ul></div>\n")
}

func (p plot) markup() markup {
	var h htmlBuilder
	h.add(`<div class="plot"><p><span class="soft">%v</span><b>%v</b>`, p.Title, p.Value)
	if p.Top != "" {
		h.add(`<small class="push">top: %v</small>`, p.Top)
	}
	h.add(`</p><div class="frame">%v</div><div class="axis"><small>%v</small><small>now</small></div></div>`+"\n", p.SVG, p.From)
	return h.markup()
}

func figuresMarkup(all []figure) markup {
	var h htmlBuilder
	h.add(`<dl class="figures">`)
	for _, f := range all {
		class, note := markup(""), markup("")
		if f.Bad {
			class = ` class="bad-figure"`
		}
		if f.Note != "" {
			var n htmlBuilder
			n.add(" <small>%v</small>", f.Note)
			note = n.markup()
		}
		h.add("<div><dt>%v</dt><dd%v>%v%v</dd></div>", f.Name, class, f.Value, note)
	}
	h.add("</dl>\n")
	return h.markup()
}
