//! From values to places on the sheet, and round numbers for the ticks.

/// Where an axis has a line and a number.
pub struct Tick {
    /// The value, as the axis takes it.
    pub value: f64,
    /// What is written there.
    pub label: String,
}

/// One axis: values from `least` to `greatest` lie between two places of the sheet.
pub struct Axis {
    least: f64,
    greatest: f64,
    from: f64,
    to: f64,
    logarithmic: bool,
}

/// Values that differ by more than this are drawn by their logarithm: small ones would lie on the axis.
const LINEAR_RATIO_MAX: f64 = 30.0;

impl Axis {
    /// An axis whose equal steps are equal differences.
    pub fn linear(least: f64, greatest: f64, from: f64, to: f64) -> Axis {
        let greatest = if greatest > least { greatest } else { least + 1.0 };
        Axis { least, greatest, from, to, logarithmic: false }
    }

    /// A vertical axis for these values, with its ticks: from zero, or by logarithm when they differ by much and `logarithmic` allows it.
    pub fn for_values(values: impl Iterator<Item = f64>, from: f64, to: f64, logarithmic: bool) -> (Axis, Vec<Tick>) {
        let (mut least, mut greatest, mut least_above_zero) = (0.0f64, 0.0f64, f64::INFINITY);
        for value in values {
            least = least.min(value);
            greatest = greatest.max(value);
            if value > 0.0 {
                // What is smaller is as good as nothing, and would take the room of what is there.
                let value = value.max(1e-6);
                least_above_zero = least_above_zero.min(value);
            }
        }
        if logarithmic && least == 0.0 && greatest / least_above_zero > LINEAR_RATIO_MAX {
            let (first, last) = (least_above_zero.log10().floor(), greatest.log10().ceil());
            let axis = Axis { least: 10f64.powf(first), greatest: 10f64.powf(last), from, to, logarithmic: true };
            return (axis, powers(first as i32, last as i32));
        }
        let step = step(greatest - least, 6);
        let (first, last) = ((least / step).floor(), (greatest / step).ceil().max(1.0));
        let axis = Axis::linear(first * step, last * step, from, to);
        (axis, ticks(first * step, last * step, step))
    }

    /// Whether it goes by logarithm.
    pub fn is_logarithmic(&self) -> bool {
        self.logarithmic
    }

    /// Where a value lies; what is beyond an end lies at it.
    pub fn place(&self, value: f64) -> f64 {
        let value = value.clamp(self.least, self.greatest);
        let part = if self.logarithmic {
            (value / self.least).ln() / (self.greatest / self.least).ln()
        } else {
            (value - self.least) / (self.greatest - self.least)
        };
        self.from + part * (self.to - self.from)
    }
}

/// Whether a value can be drawn: it is a number, and no larger than anything that is measured.
pub fn is_sound(value: f64) -> bool {
    value.abs() <= 1e15
}

/// A round step that divides `range` into at most `most` parts.
pub fn step(range: f64, most: u32) -> f64 {
    if !range.is_normal() || range < 0.0 {
        return 1.0;
    }
    let rough = range / f64::from(most);
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// Ticks from one multiple of `step` to another.
pub fn ticks(first: f64, last: f64, step: f64) -> Vec<Tick> {
    let count = ((last - first) / step).round().clamp(0.0, 100.0) as u32;
    (0..=count)
        .map(|index| {
            let value = first + f64::from(index) * step;
            Tick { value, label: number(value, step) }
        })
        .collect()
}

/// Powers of ten, and 2 and 5 times each when there are few.
fn powers(first: i32, last: i32) -> Vec<Tick> {
    let within: &[f64] = if last - first <= 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let mut ticks = Vec::new();
    for power in first..=last {
        for factor in within.iter().take(if power == last { 1 } else { within.len() }) {
            let value = factor * 10f64.powi(power);
            ticks.push(Tick { value, label: number(value, value) });
        }
    }
    ticks
}

/// A number with as many digits as the step between it and the next asks for.
pub fn number(value: f64, step: f64) -> String {
    // What is left of a difference that should be zero has no minus sign.
    let value = if value.abs() < step.abs() / 1e6 { 0.0 } else { value };
    let (value, step, suffix) = match value.abs() {
        large if large >= 1e10 => (value / 1e9, step / 1e9, "G"),
        large if large >= 1e7 => (value / 1e6, step / 1e6, "M"),
        large if large >= 1e5 => (value / 1e3, step / 1e3, "k"),
        _ => (value, step, ""),
    };
    let digits = (-step.abs().max(1e-9).log10()).ceil().clamp(0.0, 9.0) as usize;
    format!("{value:.digits$}{suffix}")
}
