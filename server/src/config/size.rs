//! Sizes and switches as people write them.

/// Reads `1048576`, `64KiB`, `16 MiB` or `1GiB`.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = || "is not a size: write bytes, or a number with KiB, MiB, GiB or TiB".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "kib" => 10,
        "mib" => 20,
        "gib" => 30,
        "tib" => 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << shift).ok_or_else(|| "is too large".to_owned())
}

/// Reads a size that fits the machine's memory and lies between two bounds.
pub fn parse_between(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let size = parse(text)?;
    if size < min || size > max {
        return Err(format!("must lie between {min} and {max} bytes"));
    }
    Ok(size)
}

/// Reads `true` or `false`.
pub fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// Reads a whole number between two bounds.
pub fn parse_number(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let number: u64 = text.parse().map_err(|_| "is not a whole number".to_owned())?;
    if number < min || number > max {
        return Err(format!("must lie between {min} and {max}"));
    }
    Ok(number)
}

/// Reads a whole number of the size that Kafka's protocol has, between two bounds.
pub fn parse_i32(text: &str, min: i32, max: i32) -> Result<i32, String> {
    let bound = |bound: i32| u64::try_from(bound).unwrap_or(0);
    let number = parse_number(text, bound(min), bound(max))?;
    i32::try_from(number).map_err(|_| format!("must lie between {min} and {max}"))
}
