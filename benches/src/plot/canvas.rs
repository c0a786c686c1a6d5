//! The sheet that a plot is drawn on: its size, colours, axes and legend, and text that cannot break out of its place.

use super::scale::{Axis, Tick};
use std::fmt::Write;

/// The sheet, in units of the SVG.
pub const WIDTH: f64 = 760.0;
pub const HEIGHT: f64 = 430.0;
/// The left and right edge of the area that holds data, and its lower edge.
pub const LEFT: f64 = 78.0;
pub const RIGHT: f64 = WIDTH - 30.0;
pub const BOTTOM: f64 = HEIGHT - 62.0;

/// How wide a character is, at most on average, as a part of its size.
const CHARACTER: f64 = 0.58;
const LEGEND_LINE: f64 = 20.0;

/// Colours of lines and bars on a light and on a dark sheet, told apart by most people who see some colours alike; the dashes of
/// the lines say the same once more.
const COLOURS: [(&str, &str); 6] = [
    ("#1f6fc4", "#6cb0ff"),
    ("#c2560c", "#ff9b52"),
    ("#1a7f4b", "#55cf92"),
    ("#8547b5", "#c79bf0"),
    ("#a8283a", "#ff8a96"),
    ("#6b6a13", "#d3cf5a"),
];
const DASHES: [&str; 6] = ["", "7 4", "2 3", "10 3 2 3", "5 2", "1 2"];

/// A plot that is being drawn.
pub struct Canvas {
    out: String,
    /// The upper edge of the area that holds data; it depends on the legend.
    pub top: f64,
}

/// How a name is shown in the legend.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Line,
    Box,
}

impl Canvas {
    /// A sheet with a title, and a legend when there is more to tell apart than one thing.
    pub fn new(title: &str, names: &[&str], mark: Mark) -> Canvas {
        let mut out = String::new();
        let _ = write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             role=\"img\" font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\">\n<title>{}</title>\n{}",
            escape(title),
            style()
        );
        let _ = writeln!(out, "<rect class=\"sheet\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>");
        let mut canvas = Canvas { out, top: 48.0 };
        // A long title gets smaller rather than cut.
        let size = (WIDTH - 40.0) / (title.chars().count().max(1) as f64 * CHARACTER);
        canvas.text(title, WIDTH / 2.0, 26.0, &format!("class=\"title\" font-size=\"{:.1}\"", size.clamp(8.0, 16.0)));
        if names.len() > 1 || mark == Mark::Line && !names.is_empty() {
            canvas.legend(names, mark);
        }
        canvas
    }

    fn legend(&mut self, names: &[&str], mark: Mark) {
        let (mut x, mut y) = (LEFT, self.top);
        for (index, name) in names.iter().enumerate() {
            let width = 34.0 + name.chars().count() as f64 * 12.0 * CHARACTER + 16.0;
            if x > LEFT && x + width > RIGHT {
                (x, y) = (LEFT, y + LEGEND_LINE);
            }
            match mark {
                Mark::Line => {
                    let _ = writeln!(
                        self.out,
                        "<path class=\"line s{}\" {} d=\"M{x:.1} {y:.1}h26\"/>",
                        index % COLOURS.len(),
                        dashes(index)
                    );
                }
                Mark::Box => self.rect(&format!("s{}", index % COLOURS.len()), x + 8.0, y - 7.0, 14.0, 14.0, ""),
            }
            self.text(name, x + 32.0, y + 4.0, "font-size=\"12\"");
            x += width;
        }
        self.top = y + 22.0;
    }

    /// A line of a plot, through points of the sheet.
    pub fn line(&mut self, series: usize, points: impl Iterator<Item = (f64, f64)>) {
        let mut path = String::new();
        let mut last = (f64::NAN, f64::NAN);
        let mut count = 0;
        for (x, y) in points {
            let _ = write!(path, "{}{x:.1} {y:.1}", if count == 0 { "M" } else { "L" });
            (last, count) = ((x, y), count + 1);
        }
        let class = series % COLOURS.len();
        if count == 1 {
            let _ =
                writeln!(self.out, "<circle class=\"s{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"/>", last.0, last.1);
        } else if count > 1 {
            let _ = writeln!(self.out, "<path class=\"line s{class}\" {} d=\"{path}\"/>", dashes(series));
        }
    }

    /// A bar, with what a reader sees who points at it.
    pub fn bar(&mut self, series: usize, x: f64, y: f64, width: f64, height: f64, told: &str) {
        self.rect(&format!("s{}", series % COLOURS.len()), x, y, width, height, told);
    }

    fn rect(&mut self, class: &str, x: f64, y: f64, width: f64, height: f64, told: &str) {
        let _ = write!(
            self.out,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\""
        );
        if told.is_empty() {
            self.out.push_str("/>\n");
        } else {
            let _ = writeln!(self.out, "><title>{}</title></rect>", escape(told));
        }
    }

    /// A thin line from a lower to a higher place, with ends.
    pub fn whisker(&mut self, x: f64, low: f64, high: f64, half: f64) {
        let (from, to) = (x - half, x + half);
        let _ = writeln!(
            self.out,
            "<path class=\"whisker\" d=\"M{from:.1} {low:.1}H{to:.1}M{from:.1} {high:.1}H{to:.1}M{x:.1} {low:.1}V{high:.1}\"/>"
        );
    }

    /// Text; `attributes` are ours, the text is anybody's.
    pub fn text(&mut self, text: &str, x: f64, y: f64, attributes: &str) {
        let _ = writeln!(self.out, "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{}</text>", escape(text));
    }

    /// The vertical axis: a line across for each tick, its label, and what is measured in which unit.
    pub fn vertical(&mut self, axis: &Axis, ticks: &[Tick], label: &str) {
        for tick in ticks {
            let y = axis.place(tick.value);
            let _ = writeln!(self.out, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>");
            self.text(&tick.label, LEFT - 8.0, y + 4.0, "class=\"tick\" text-anchor=\"end\"");
        }
        let middle = f64::midpoint(self.top, BOTTOM);
        self.text(label, 18.0, middle, &format!("class=\"label\" transform=\"rotate(-90 18 {middle:.1})\""));
    }

    /// The horizontal axis.
    pub fn horizontal(&mut self, axis: &Axis, ticks: &[Tick], label: &str) {
        for tick in ticks {
            let x = axis.place(tick.value);
            let _ = writeln!(self.out, "<path class=\"grid\" d=\"M{x:.1} {:.1}V{BOTTOM}\"/>", self.top);
            self.text(&tick.label, x, BOTTOM + 18.0, "class=\"tick\" text-anchor=\"middle\"");
        }
        self.horizontal_label(label);
    }

    /// What the horizontal axis shows.
    pub fn horizontal_label(&mut self, label: &str) {
        self.text(label, f64::midpoint(LEFT, RIGHT), HEIGHT - 16.0, "class=\"label\"");
    }

    /// The two edges where the axes are.
    pub fn frame(&mut self) {
        let _ = writeln!(self.out, "<path class=\"frame\" d=\"M{LEFT} {:.1}V{BOTTOM}H{RIGHT}\"/>", self.top);
    }

    /// Says that there is nothing to see.
    pub fn empty(mut self) -> String {
        self.text("no data", WIDTH / 2.0, HEIGHT / 2.0, "class=\"label\" font-size=\"18\"");
        self.finish()
    }

    /// The file.
    pub fn finish(mut self) -> String {
        self.out.push_str("</svg>\n");
        self.out
    }
}

fn dashes(series: usize) -> String {
    match DASHES[series % DASHES.len()] {
        "" => String::new(),
        dashes => format!("stroke-dasharray=\"{dashes}\""),
    }
}

fn style() -> String {
    let mut light =
        ".sheet{fill:#ffffff}text{fill:#24292f}.tick{font-size:11px}.label{font-size:12px;text-anchor:middle}\
                     .title{font-weight:600;text-anchor:middle}.value{font-size:10px;text-anchor:middle}\
                     .grid{stroke:#d9dee3;stroke-width:1;fill:none}.frame{stroke:#6e7781;stroke-width:1;fill:none}\
                     .whisker{stroke:#24292f;stroke-width:1.2;fill:none}"
            .to_owned();
    let mut dark =
        ".sheet{fill:#0d1117}text{fill:#e2e8ee}.grid{stroke:#2b323b}.frame{stroke:#8b949e}.whisker{stroke:#e2e8ee}"
            .to_owned();
    for (index, (on_light, on_dark)) in COLOURS.iter().enumerate() {
        let _ = write!(light, ".s{index}{{fill:{on_light};stroke:{on_light}}}");
        let _ = write!(dark, ".s{index}{{fill:{on_dark};stroke:{on_dark}}}");
    }
    // After the colours, so that a line is not filled.
    light.push_str(".line{fill:none;stroke-width:2;stroke-linejoin:round}");
    dark.push_str(".line{fill:none}");
    format!("<style>{light}@media (prefers-color-scheme:dark){{{dark}}}</style>\n")
}

/// Text as XML takes it. What XML has no place for is left out.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(' '),
            control if control.is_control() || matches!(control, '\u{fffe}' | '\u{ffff}') => {}
            other => out.push(other),
        }
    }
    out
}
