//! The engine's options within the machine's limits, and its refusals in words for whoever started it.

use crate::exit::{Failure, NOT_STARTED};
use crate::process;
use headwater_engine::{OpenError, Options};

/// What the configuration says, within what the machine allows.
pub fn within(mut options: Options, descriptors_max: u64) -> Options {
    options.open_files_max = options.open_files_max.min(open_files_max(descriptors_max, process::maps_max()));
    options
}

/// At most half of the descriptors and of the maps, the rest belongs to connections and to the allocator. A segment takes
/// one of each.
fn open_files_max(descriptors_max: u64, maps_max: u64) -> usize {
    usize::try_from((descriptors_max / 2).min(maps_max / 2)).unwrap_or(usize::MAX).max(16)
}

/// Why the data folder could not be opened, and what to do.
pub fn open_failure(place: &str, error: &OpenError) -> Failure {
    let failure = Failure::new(NOT_STARTED, format!("cannot open the data folder {place}: {error}"));
    match error {
        OpenError::Io { error, .. } if error.kind() == std::io::ErrorKind::WouldBlock => {
            failure.hint("another server uses it; stop that one, or name another folder with --data-dir")
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_take_half_of_what_the_machine_allows() {
        assert_eq!(open_files_max(1024, 65_530), 512);
        assert_eq!(open_files_max(1 << 20, 65_530), 32_765);
        assert_eq!(open_files_max(u64::MAX, u64::MAX), usize::try_from(u64::MAX / 2).unwrap());
        assert_eq!(open_files_max(4, 4), 16);
    }
}
