//! Whatever is put, kept, settled and read in whatever order: the file reads as it was written.

use super::Bounds;
use crate::env::sim::SimDisk;
use crate::env::{Disk, RealDisk};
use crate::ids::FileId;
use crate::segment::files::{FileTable, SegmentFile};
use proptest::prelude::*;
use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const BOUNDS: Bounds = Bounds { piece: 8192, files: 2, waiting: 16 << 10, readers_stay: Duration::ZERO };

#[derive(Clone, Debug)]
enum Op {
    Put {
        file: usize,
        parts: Vec<usize>,
        gathers: bool,
    },
    Write,
    Keep(usize),
    Read {
        file: usize,
        from: u16,
        size: u16,
    },
    /// The file leaves the table of open ones.
    Close(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let file = 0..3usize;
    let parts = prop::collection::vec(prop_oneof![1..300usize, 3_000..20_000usize], 1..4);
    prop_oneof![
        6 => (file.clone(), parts, prop::bool::weighted(0.8)).prop_map(|(file, parts, gathers)| Op::Put { file, parts, gathers }),
        2 => Just(Op::Write),
        1 => file.clone().prop_map(Op::Keep),
        2 => (file.clone(), any::<u16>(), any::<u16>()).prop_map(|(file, from, size)| Op::Read { file, from, size }),
        1 => file.prop_map(Op::Close),
    ]
}

struct World {
    table: FileTable,
    /// What each file holds.
    due: Vec<Vec<u8>>,
}

impl World {
    fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> World {
        // The table keeps four at least.
        let table = FileTable::new(disk, dir, 1, BOUNDS);
        for file in 0..3 {
            table.create(FileId(file)).unwrap();
        }
        World { table, due: vec![Vec::new(); 3] }
    }

    fn file(&self, file: usize) -> Arc<SegmentFile> {
        self.table.get(FileId(file as u64)).unwrap()
    }

    fn write(&self) {
        while self.table.pieces().write_due(Duration::ZERO).unwrap() {}
    }

    fn check(&self, file: usize, from: usize, size: usize) {
        let due = &self.due[file];
        let from = from % (due.len() + 1);
        let size = size.min(due.len() - from);
        let mut found = vec![0; size];
        self.file(file).read_exact_at(&mut found, from as u64).unwrap();
        assert!(found == due[from..from + size], "file {file} from {from}, {size} bytes");
    }

    fn run(&mut self, ops: &[Op]) {
        for op in ops {
            match op {
                Op::Put { file, parts, gathers } => {
                    let position = self.due[*file].len();
                    let parts: Vec<Vec<u8>> = parts
                        .iter()
                        .enumerate()
                        .map(|(at, size)| (0..*size).map(|n| (n * 7 + position + at) as u8).collect())
                        .collect();
                    let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
                    self.table.append(&self.file(*file), &slices, position as u64, *gathers).unwrap();
                    self.due[*file].extend(parts.concat());
                }
                Op::Write => self.write(),
                Op::Keep(file) => {
                    let file = self.file(*file);
                    file.gather().keep(&file).unwrap();
                }
                Op::Read { file, from, size } => self.check(*file, usize::from(*from), usize::from(*size)),
                Op::Close(file) => self.table.close(FileId(*file as u64)),
            }
            let pieces = self.table.pieces();
            assert!(pieces.files().len() <= BOUNDS.files);
            assert!(pieces.waiting.load(super::Ordering::Relaxed) <= BOUNDS.waiting + 8 * BOUNDS.piece);
        }
        for file in 0..3 {
            self.check(file, 0, usize::MAX);
            assert!(!self.file(file).gather().holds(u64::MAX - 1), "who has read finds all of it in the file");
        }
        assert!(self.table.pieces().files().is_empty());
        assert_eq!(self.table.pieces().waiting.load(super::Ordering::Relaxed), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_file_reads_as_it_was_written(ops in prop::collection::vec(op(), 1..60)) {
        World::new(Arc::new(SimDisk::new(1)), "segments".into()).run(&ops);
    }
}

#[test]
fn a_real_disk_does_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(RealDisk::open(folder.path()).unwrap());
    let mut world = World::new(disk, folder.path().join("segments"));
    let put = |file, sizes: &[usize], gathers| Op::Put { file, parts: sizes.to_vec(), gathers };
    let read = |file, from, size| Op::Read { file, from, size };
    let ops: Vec<Op> = (0..60)
        .flat_map(|n: usize| {
            let file = n % 3;
            [
                put(file, &[70 + n, 9_000, 5], true),
                put(file, &[1 + n * 31], !n.is_multiple_of(7)),
                if n.is_multiple_of(5) { Op::Keep(file) } else { Op::Write },
                if n.is_multiple_of(4) { read(file, (n * 997) as u16, 5_000) } else { Op::Write },
                if n.is_multiple_of(11) { Op::Close(file) } else { Op::Write },
            ]
        })
        .collect();
    world.run(&ops);
}
