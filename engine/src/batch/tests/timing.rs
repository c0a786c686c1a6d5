//! How fast the check is: `cargo test --profile quick -p headwater-engine --lib batch::tests::timing -- --ignored --nocapture`.
#![allow(clippy::disallowed_methods, reason = "reads the processor time of its thread")]

use std::hint::black_box;
use std::time::Duration;

use super::*;

/// What this thread has spent on a processor: other programs on the machine do not count.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    Duration::from_nanos(stat.split(' ').next().and_then(|spent| spent.parse().ok()).expect("nanoseconds"))
}

/// Runs `work` for about a second and returns bytes per second of processor time.
fn rate(size: usize, mut work: impl FnMut()) -> f64 {
    let start = cpu_time();
    let mut rounds = 0_u32;
    loop {
        for _ in 0..8 {
            work();
        }
        rounds += 8;
        let spent = cpu_time() - start;
        if spent.as_millis() >= 1000 {
            return f64::from(rounds) * size as f64 / spent.as_secs_f64();
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn speed() {
    for (value_size, count) in [(90, 1000), (1014, 900), (16_000, 60)] {
        // Half of each value is noise, so that the codecs have something to do.
        let mut noise = 1_u64;
        let mut value = || {
            let mut next = || {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (noise >> 56) as u8
            };
            (0..value_size).map(|at| if at % 64 < 32 { next() } else { b'x' }).collect::<Vec<u8>>()
        };
        let records: Vec<_> =
            (0..count).map(|index| Plain { value: Some(value()), ..Plain::new(NOW.0 + index, "", "") }).collect();
        for codec in Codec::ALL {
            let bytes = fill(BatchBuilder::new().codec(codec), &records);
            let size = fill(BatchBuilder::new(), &records).len();
            let rules = Rules::new(NOW);
            let speed = rate(size, || drop(black_box(check(bytes.clone(), &rules).unwrap())));
            println!("{value_size:>6} byte values, {codec:?}: check {:.0} MB/s of {} bytes", speed / 1e6, bytes.len());
        }
        let bytes = fill(BatchBuilder::new(), &records);
        for codec in Codec::ALL {
            let small = compress(codec, &bytes).unwrap();
            let inflate = rate(bytes.len(), || drop(black_box(decompress(codec, &small, 1 << 20).unwrap())));
            let deflate = rate(bytes.len(), || drop(black_box(compress(codec, &bytes).unwrap())));
            println!(
                "{value_size:>6} byte values, {codec:?}: inflate {:.0} MB/s, compress {:.0} MB/s",
                inflate / 1e6,
                deflate / 1e6
            );
        }
        let crc = rate(bytes.len(), || verify_crc(black_box(&bytes)).unwrap());
        let stamping = Rules { timestamp_type: TimestampType::LogAppendTime, ..Rules::new(NOW) };
        let stamped = rate(bytes.len(), || drop(black_box(check(bytes.clone(), &stamping).unwrap())));
        let iterate =
            rate(bytes.len(), || assert_eq!(records_of(&bytes, 0).unwrap().iter().flatten().count(), records.len()));
        println!(
            "{value_size:>6} byte values: CRC {:.0} MB/s, check and stamp {:.0} MB/s, iterate {:.0} MB/s",
            crc / 1e6,
            stamped / 1e6,
            iterate / 1e6
        );
    }
}
