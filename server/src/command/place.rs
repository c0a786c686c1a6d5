//! Places in a log and moments, as a person writes them.

use crate::client::At;
use std::str::FromStr;
use toml_datetime::{Datetime, Offset};

/// A place in each partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Offset(i64),
    At(At),
}

impl Place {
    /// Whether it is the first record that there is.
    pub fn is_earliest(self) -> bool {
        self == Place::At(At::Earliest)
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        match text {
            "earliest" => Ok(Place::At(At::Earliest)),
            "latest" => Ok(Place::At(At::Latest)),
            _ => match (text.strip_prefix('@'), text.parse::<i64>()) {
                (Some(time), _) => Ok(Place::At(At::Time(moment(time)?))),
                (None, Ok(offset)) if offset >= 0 => Ok(Place::Offset(offset)),
                // A date needs no mark: no offset looks like one.
                (None, Err(_)) if text.parse::<Datetime>().is_ok() => Ok(Place::At(At::Time(moment(text)?))),
                (None, _) => Err("must be earliest, latest, an offset, or a time: 2025-01-31T12:00:00Z, or @ and milliseconds since 1970".to_owned()),
            },
        }
    }
}

/// Milliseconds since 1970 of a number or of an RFC 3339 time, with or without the `@` that tells it from an offset elsewhere.
/// A time without a zone is UTC, a date its first moment.
pub fn moment(text: &str) -> Result<i64, String> {
    let time = time_ms(text.strip_prefix('@').unwrap_or(text))?;
    // Kafka takes some negative times for places: -1 for the end, -2 for the beginning.
    if time >= 0 { Ok(time) } else { Err("lies before 1970, where times begin".to_owned()) }
}

fn time_ms(text: &str) -> Result<i64, String> {
    if let Ok(number) = text.parse::<i64>() {
        return Ok(number);
    }
    let wrong = || "is not a time: write milliseconds since 1970, or 2025-01-31T12:00:00Z".to_owned();
    let parsed: Datetime = text.parse().map_err(|_| wrong())?;
    let date = parsed.date.ok_or_else(wrong)?;
    let days = days_since_1970(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let of_day = parsed.time.map_or(0, |time| {
        let seconds = i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + i64::from(time.second.unwrap_or(0));
        seconds * 1000 + i64::from(time.nanosecond.unwrap_or(0)) / 1_000_000
    });
    let ahead_minutes = match parsed.offset {
        Some(Offset::Custom { minutes }) => i64::from(minutes),
        Some(Offset::Z) | None => 0,
    };
    Ok(days * 86_400_000 + of_day - ahead_minutes * 60_000)
}

/// Days between a date of the Gregorian calendar and 1970-01-01. Years begin in March here, so that the day that some
/// years have more is their last one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_people_write_them() {
        let cases = [
            ("earliest", Place::At(At::Earliest)),
            ("latest", Place::At(At::Latest)),
            ("42", Place::Offset(42)),
            ("@0", Place::At(At::Time(0))),
            ("@1700000000000", Place::At(At::Time(1_700_000_000_000))),
            ("@1970-01-01", Place::At(At::Time(0))),
            ("@2023-11-14T22:13:20Z", Place::At(At::Time(1_700_000_000_000))),
            ("@2023-11-14T22:13:20.250", Place::At(At::Time(1_700_000_000_250))),
            ("@2023-11-15T00:13:20+02:00", Place::At(At::Time(1_700_000_000_000))),
            ("2023-11-14T22:13:20Z", Place::At(At::Time(1_700_000_000_000))),
            ("@2024-02-29T00:00:00Z", Place::At(At::Time(1_709_164_800_000))),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["", "first", "-1", "@", "@tomorrow", "@12:00:00", "@-5"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
        let before = Err("lies before 1970, where times begin".to_owned());
        for text in ["@-1", "1969-12-31", "@1969-12-31T23:59:59.999Z", "1970-01-01T00:00:00+02:00", "0000-01-01"] {
            assert_eq!(text.parse::<Place>(), before.clone().map(Place::Offset), "{text}");
        }
        assert_eq!(moment("1969-12-31T23:59:59.998Z"), before);
        assert_eq!((moment("1000"), moment("@1970-01-01T00:00:01Z")), (Ok(1000), Ok(1000)));
    }
}
