//! Damaged batches: nothing may panic, and what is taken must be consistent.

use super::*;

/// One way to damage bytes.
#[derive(Debug, Clone)]
enum Damage {
    Flip(usize, u8),
    Set(usize, u8),
    Cut(usize),
    Insert(usize, u8),
    Remove(usize, usize),
    Repeat(usize, usize),
}

fn damage_strategy() -> impl Strategy<Value = Damage> {
    let at = any::<usize>();
    let odd = prop_oneof![Just(0), Just(1), Just(0x7f), Just(0x80), Just(0xff), any::<u8>()];
    prop_oneof![
        4 => (at, 0..8_u8).prop_map(|(at, bit)| Damage::Flip(at, 1 << bit)),
        4 => (at, odd).prop_map(|(at, byte)| Damage::Set(at, byte)),
        1 => at.prop_map(Damage::Cut),
        1 => (at, any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        1 => (at, 1..20_usize).prop_map(|(at, size)| Damage::Remove(at, size)),
        1 => (at, 1..40_usize).prop_map(|(at, size)| Damage::Repeat(at, size)),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    let size = bytes.len();
    if size == 0 {
        return;
    }
    match *damage {
        Damage::Flip(at, bits) => bytes[at % size] ^= bits,
        Damage::Set(at, byte) => bytes[at % size] = byte,
        Damage::Cut(at) => bytes.truncate(at % size),
        Damage::Insert(at, byte) => bytes.insert(at % size, byte),
        Damage::Remove(at, count) => drop(bytes.drain(at % size..(at % size + count).min(size))),
        Damage::Repeat(at, count) => {
            let part = bytes[at % size..(at % size + count).min(size)].to_vec();
            let at = at % size;
            bytes.splice(at..at, part);
        }
    }
}

/// Whatever the check lets through reads back whole, and passes the check again unchanged.
fn consistent(bytes: Bytes, rules: &Rules) -> Result<(), TestCaseError> {
    let Ok(batch) = check(bytes, rules) else { return Ok(()) };
    prop_assert_eq!(batch.header(), &BatchHeader::parse(batch.bytes())?);
    verify_crc(batch.bytes())?;
    prop_assert_eq!(batch.header().size, batch.bytes().len());
    let records = records_of(batch.bytes(), rules.decompressed_size_max)?;
    let mut newest = -1;
    let mut next = batch.header().base_offset;
    for record in &records {
        let record = record?;
        prop_assert_eq!(record.offset, next);
        prop_assert_eq!(record.headers.count(), record.headers.size_hint().0);
        newest = record.timestamp.0.max(newest);
        next = next.plus(1);
    }
    prop_assert_eq!(next, batch.header().next_offset());
    prop_assert_eq!(newest, batch.header().max_timestamp.0);
    let again = check(batch.bytes().clone(), rules)?;
    prop_assert_eq!(again.bytes().as_ptr(), batch.bytes().as_ptr());
    Ok(())
}

/// Whatever a batch is, taking records out of it fails, or leaves the others as they were in a batch that is right.
fn taken_apart(bytes: &Bytes) -> Result<(), TestCaseError> {
    let Ok(records) = records_of(bytes, 1 << 20) else { return Ok(()) };
    for turn in 0..4 {
        let fate = |record: &Record<'_>| match record.offset.0.wrapping_add(turn).rem_euclid(3) {
            0 => Fate::Goes,
            1 => Fate::Stays,
            _ => Fate::StaysForNow,
        };
        let Ok(Retained::Changed(batch)) = retain(&records, TimestampMs(1_000_000), fate) else { continue };
        prop_assert!(verify_crc(batch.bytes()).is_ok());
        let (before, after) = (records.header(), batch.header());
        prop_assert_eq!((before.base_offset, before.last_offset()), (after.base_offset, after.last_offset()));
        let left = records_of(batch.bytes(), 2 << 20)?;
        let all = |records: &Records| -> Vec<_> {
            let each = records.iter().filter_map(Result::ok);
            each.map(|r| (r.offset, r.timestamp, r.key.map(<[u8]>::to_vec), r.value.map(<[u8]>::to_vec))).collect()
        };
        let mut due = records.iter().filter_map(Result::ok).filter(|record| fate(record) != Fate::Goes);
        prop_assert_eq!(after.record_count as usize, all(&left).len());
        for found in all(&left) {
            let due = due.next();
            let due = due.map(|r| (r.offset, r.timestamp, r.key.map(<[u8]>::to_vec), r.value.map(<[u8]>::to_vec)));
            prop_assert_eq!(Some(found), due);
        }
        prop_assert!(due.next().is_none());
    }
    Ok(())
}

proptest! {
    // PROPTEST_CASES asks for more.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(6_000), ..ProptestConfig::default() })]

    /// The CRC is repaired after the damage, so that the checks behind it are reached.
    #[test]
    fn damaged_batches_are_refused_or_consistent(
        records in vec(record_strategy(), 1..6),
        codec in codec_strategy(),
        damages in vec(damage_strategy(), 1..5),
        in_records in any::<bool>(),
        repair in any::<bool>(),
    ) {
        let rules = Rules { decompressed_size_max: 1 << 20, ..lenient() };
        let mut bytes = fill(BatchBuilder::new().codec(codec), &records).to_vec();
        let mut part = bytes.split_off(if in_records { BatchHeader::SIZE } else { 0 });
        for damage in &damages {
            apply(&mut part, damage);
        }
        bytes.extend_from_slice(&part);
        if repair && bytes.len() >= BatchHeader::SIZE {
            consistent(sealed(bytes.clone()), &rules)?;
        }
        let bytes = Bytes::from(bytes);
        let _ = headers(&bytes).count();
        taken_apart(&bytes)?;
        let _ = records_of(&bytes, 1 << 20).map(|records| records.iter().count());
        consistent(bytes, &rules)?;
    }

    /// Damage inside the uncompressed section, then compressed: the walk sees it in every codec.
    #[test]
    fn damaged_sections_are_refused_or_consistent(
        records in vec(record_strategy(), 1..6),
        codec in codec_strategy(),
        damages in vec(damage_strategy(), 1..3),
    ) {
        let plain = fill(BatchBuilder::new(), &records);
        let mut section = plain[BatchHeader::SIZE..].to_vec();
        for damage in &damages {
            apply(&mut section, damage);
        }
        let mut bytes = plain[..BatchHeader::SIZE].to_vec();
        bytes[22] |= codec.number();
        bytes.extend_from_slice(&compress(codec, &section)?);
        consistent(sealed(bytes), &Rules { decompressed_size_max: 1 << 20, ..lenient() })?;
    }

    #[test]
    fn arbitrary_bytes_never_inflate_past_the_limit(
        codec in codec_strategy(), seed in bytes_strategy(2000), damages in vec(damage_strategy(), 0..6),
        size_max in 0..3000_usize,
    ) {
        let mut bytes = compress(codec, &seed)?;
        for damage in &damages {
            apply(&mut bytes, damage);
        }
        if let Ok(out) = decompress(codec, &bytes, size_max) {
            prop_assert!(out.len() <= size_max);
        }
        let _ = decompress(codec, &seed, size_max);
        let _ = BatchHeader::parse(&seed);
    }
}
