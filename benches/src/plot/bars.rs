//! Bars: a group for each case, a bar in it for each of those compared.

use super::canvas::{BOTTOM, Canvas, LEFT, Mark, RIGHT};
use super::scale::{Axis, is_sound};
use crate::latency::short;

/// One bar.
#[derive(Clone, Debug, Default)]
pub struct Bar {
    /// The case; bars of one case stand together. Groups come in the order in which they are first named.
    pub group: String,
    /// Whose bar it is, a broker's, say: one colour in all groups.
    pub name: String,
    /// Its height: a median.
    pub value: f64,
    /// The least of the rounds.
    pub least: f64,
    /// The greatest of the rounds.
    pub greatest: f64,
}

/// The room for the names of the groups, in characters of their size.
const NAME_SIZE: f64 = 11.0;
const NAME_CHARACTER: f64 = 6.3;

/// Bars from zero up, each with its value above it and a line from the least to the greatest of its rounds.
#[must_use]
pub fn bars(title: &str, unit: &str, bars: &[Bar]) -> String {
    let sound: Vec<&Bar> = bars.iter().filter(|bar| is_sound(bar.value) && bar.value >= 0.0).collect();
    let names = in_order(sound.iter().map(|bar| bar.name.as_str()));
    let groups = in_order(sound.iter().map(|bar| bar.group.as_str()));
    let mut canvas = Canvas::new(title, &names, Mark::Box);
    if sound.is_empty() {
        return canvas.empty();
    }
    // Above the highest bar there is room for its number.
    let values = sound.iter().flat_map(|bar| [bar.value, ends(bar).1]);
    let (y, ticks) = Axis::for_values(values, BOTTOM, canvas.top + 12.0, false);
    canvas.vertical(&y, &ticks, unit);
    let room = (RIGHT - LEFT) / groups.len() as f64;
    let width = (room * 0.8 / names.len() as f64).min(64.0);
    for (at, group) in groups.iter().enumerate() {
        let middle = LEFT + (at as f64 + 0.5) * room;
        let left = middle - width * names.len() as f64 / 2.0;
        for bar in sound.iter().filter(|bar| bar.group == *group) {
            let Some(series) = names.iter().position(|name| *name == bar.name) else { continue };
            let x = left + series as f64 * width;
            let top = y.place(bar.value);
            let (least, greatest) = ends(bar);
            let told = format!(
                "{}, {}: {} {unit} ({} to {})",
                bar.group,
                bar.name,
                short(bar.value),
                short(least),
                short(greatest)
            );
            canvas.bar(series, x + width * 0.06, top, width * 0.88, (BOTTOM - top).max(0.5), &told);
            if greatest > least {
                canvas.whisker(x + width / 2.0, y.place(least), y.place(greatest), (width * 0.14).min(5.0));
            }
            canvas.text(&above(bar.value), x + width / 2.0, y.place(greatest).min(top) - 5.0, "class=\"value\"");
        }
        for (line, words) in wrap(group, ((room - 6.0) / NAME_CHARACTER) as usize).iter().enumerate() {
            let place = BOTTOM + 16.0 + line as f64 * (NAME_SIZE + 2.0);
            canvas.text(words, middle, place, "class=\"tick\" text-anchor=\"middle\"");
        }
    }
    canvas.frame();
    canvas.finish()
}

/// The number above a bar: bars stand close, so it is short.
fn above(value: f64) -> String {
    if value > 0.0 && value < 0.005 {
        short(value)
    } else if value < 10.0 {
        format!("{value:.2}")
    } else {
        short(value)
    }
}

/// Least and greatest; the value where they are none.
fn ends(bar: &Bar) -> (f64, f64) {
    let or_value = |end: f64| if is_sound(end) && end >= 0.0 { end } else { bar.value };
    (or_value(bar.least).min(bar.value), or_value(bar.greatest).max(bar.value))
}

/// The names, each once, in the order in which they first come.
fn in_order<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names = Vec::new();
    for name in all {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// A name in lines of at most so many characters (a longer word has one of its own); three lines at most.
fn wrap(name: &str, characters: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in name.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= characters.max(1) => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    if lines.len() > 3 {
        let rest = lines.split_off(2).join(" ");
        lines.push(rest);
    }
    lines
}
