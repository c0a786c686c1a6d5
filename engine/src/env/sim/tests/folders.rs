//! Names across crashes.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const NAMES: [&str; 6] = ["a/0", "a/1", "a/2", "b/0", "b/1", "b/2"];

#[derive(Clone, Debug)]
enum Step {
    Create(usize),
    Rename(usize, usize),
    Remove(usize),
    SyncDir(&'static str),
    SyncAll,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    prop_oneof![
        4 => name.clone().prop_map(Step::Create),
        4 => (name.clone(), name.clone()).prop_map(|(from, to)| Step::Rename(from, to)),
        2 => name.prop_map(Step::Remove),
        1 => prop_oneof![Just("a"), Just("b")].prop_map(Step::SyncDir),
        1 => Just(Step::SyncAll),
    ]
}

/// Which file has which name; files are numbered, and hold their number.
fn names(disk: &SimDisk) -> BTreeMap<String, u32> {
    let number = |path: &Path| u32::from_le_bytes(disk.content(path).unwrap()[..4].try_into().unwrap());
    disk.files().iter().map(|(path, _)| (path.display().to_string(), number(path))).collect()
}

proptest! {
    #[test]
    fn each_name_leads_where_it_once_did_and_renames_are_whole(
        steps in prop::collection::vec(step(), 1..30), seed: u64,
    ) {
        let disk = SimDisk::new(seed);
        disk.create_dir_all(Path::new("a")).unwrap();
        disk.create_dir_all(Path::new("b")).unwrap();
        let mut now: BTreeMap<String, u32> = BTreeMap::new();
        // Where each name led since its folder was last synced.
        let mut past: BTreeMap<&str, BTreeSet<Option<u32>>> = NAMES.map(|name| (name, [None].into())).into();
        let mut next = 0;
        // Files that had a durable name and were neither removed nor replaced since: they must be there under some name.
        let mut safe: BTreeSet<u32> = BTreeSet::new();
        for step in steps {
            match step {
                Step::Create(name) => {
                    let opened = disk.open(Path::new(NAMES[name]), OpenMode::Create);
                    prop_assert_eq!(opened.is_ok(), !now.contains_key(NAMES[name]));
                    if let Ok(file) = opened {
                        put(&file, 0, &u32::to_le_bytes(next));
                        file.sync().unwrap();
                        now.insert(NAMES[name].to_owned(), next);
                        next += 1;
                    }
                }
                Step::Rename(from, to) => {
                    let renamed = disk.rename(Path::new(NAMES[from]), Path::new(NAMES[to]));
                    prop_assert_eq!(renamed.is_ok(), now.contains_key(NAMES[from]));
                    if let Some(number) = now.remove(NAMES[from])
                        && let Some(replaced) = now.insert(NAMES[to].to_owned(), number)
                    {
                        safe.remove(&replaced);
                    }
                }
                Step::Remove(name) => {
                    let removed = now.remove(NAMES[name]);
                    prop_assert_eq!(disk.remove(Path::new(NAMES[name])).is_ok(), removed.is_some());
                    removed.map(|number| safe.remove(&number));
                }
                Step::SyncDir(_) | Step::SyncAll => {
                    let dir = if let Step::SyncDir(dir) = step {
                        disk.sync_dir(Path::new(dir)).unwrap();
                        dir
                    } else {
                        disk.sync_all().unwrap();
                        ""
                    };
                    for name in NAMES.into_iter().filter(|name| name.starts_with(dir)) {
                        past.insert(name, BTreeSet::new());
                        safe.extend(now.get(name));
                    }
                }
            }
            for name in NAMES {
                past.get_mut(name).unwrap().insert(now.get(name).copied());
            }
            prop_assert_eq!(&names(&disk), &now);
        }
        for seed in seed..seed.saturating_add(10) {
            let found = names(&disk.crash_image(seed));
            for name in NAMES {
                prop_assert!(past[name].contains(&found.get(name).copied()), "{} leads to {:?}", name, found.get(name));
            }
            let numbers: BTreeSet<u32> = found.values().copied().collect();
            prop_assert_eq!(numbers.len(), found.len(), "a file has two names: {:?}", &found);
            prop_assert!(safe.is_subset(&numbers), "lost: {:?} of {:?}", &safe, &found);
        }
    }
}

#[test]
fn replacing_by_rename_shows_the_old_or_the_new() {
    let disk = SimDisk::new(1);
    let old = create(&disk, "state");
    put(&old, 0, b"old");
    disk.sync_all().unwrap();
    let new = create(&disk, "state.tmp");
    put(&new, 0, b"new one");
    new.sync().unwrap();
    disk.rename(Path::new("state.tmp"), Path::new("state")).unwrap();
    let found: BTreeSet<Vec<u8>> = (0..SEEDS).map(|seed| content(&disk.crash_image(seed), "state")).collect();
    assert_eq!(found, [b"old".to_vec(), b"new one".to_vec()].into());
    disk.sync_dir(Path::new("")).unwrap();
    assert!((0..SEEDS).all(|seed| content(&disk.crash_image(seed), "state") == b"new one"));
}

#[test]
fn replacing_by_rename_without_a_sync_of_the_file_may_lose_both() {
    let disk = SimDisk::new(1);
    put(&create(&disk, "state"), 0, b"old");
    disk.sync_all().unwrap();
    put(&create(&disk, "state.tmp"), 0, b"new");
    disk.rename(Path::new("state.tmp"), Path::new("state")).unwrap();
    assert!((0..SEEDS).any(|seed| content(&disk.crash_image(seed), "state").is_empty()));
}

#[test]
fn folders_are_durable_and_their_entries_are_not() {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new("x/y/z")).unwrap();
    create(&disk, "x/y/z/file").sync().unwrap();
    let listed = |seed| disk.crash_image(seed).list(Path::new("x/y/z")).unwrap();
    assert!((0..SEEDS).any(|seed| listed(seed).is_empty()));
    assert!((0..SEEDS).any(|seed| listed(seed) == ["file"]));
    disk.sync_dir(Path::new("x/y")).unwrap();
    assert!((0..SEEDS).any(|seed| listed(seed).is_empty()), "another folder's sync does not count");
    disk.sync_dir(Path::new("x/y/z")).unwrap();
    assert!((0..SEEDS).all(|seed| listed(seed) == ["file"]));
}

#[test]
fn a_removed_folder_comes_back_whole_or_not_at_all() {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new("x/y")).unwrap();
    create(&disk, "x/y/file");
    disk.sync_all().unwrap();
    assert_eq!(disk.remove(Path::new("x/y")).unwrap_err().kind(), io::ErrorKind::DirectoryNotEmpty);
    disk.remove(Path::new("x/y/file")).unwrap();
    disk.remove(Path::new("x/y")).unwrap();
    for seed in 0..SEEDS {
        let image = disk.crash_image(seed);
        assert!(image.exists(Path::new("x/y")).unwrap() || !image.exists(Path::new("x/y/file")).unwrap());
    }
    disk.create_dir_all(Path::new("x/y")).unwrap();
    assert!((0..SEEDS).all(|seed| disk.crash_image(seed).list(Path::new("x/y")).unwrap().is_empty()));
}

#[test]
fn wrong_names_are_refused_with_the_usual_errors() {
    let disk = SimDisk::new(1);
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    let open = |path: &str, mode| disk.open(Path::new(path), mode).map(|_| ());
    assert_eq!(kind(open("none", OpenMode::Read)), io::ErrorKind::NotFound);
    assert_eq!(kind(open("no/folder", OpenMode::Create)), io::ErrorKind::NotFound);
    create(&disk, "file");
    assert_eq!(kind(open("file", OpenMode::Create)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(open("file/below", OpenMode::Create)), io::ErrorKind::NotADirectory);
    assert_eq!(kind(disk.create_dir_all(Path::new("file/below"))), io::ErrorKind::NotADirectory);
    assert_eq!(kind(disk.sync_dir(Path::new("none"))), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.list(Path::new("file")).map(|_| ())), io::ErrorKind::NotADirectory);
    disk.create_dir_all(Path::new("/data/a")).unwrap();
    create(&disk, "/data/one");
    create(&disk, "/data/a/below");
    assert_eq!(disk.list(Path::new("/data")).unwrap(), ["a", "one"]);
    assert_eq!(disk.list(Path::new("/")).unwrap(), ["data"]);
    assert_eq!(disk.list(Path::new("")).unwrap(), ["file"]);
    let guard = disk.lock(Path::new("/data")).unwrap();
    assert_eq!(kind(disk.lock(Path::new("/data/")).map(|_| ())), io::ErrorKind::WouldBlock);
    assert!(disk.kill_image().lock(Path::new("/data")).is_ok(), "a lock dies with its process");
    drop(guard);
    assert!(disk.lock(Path::new("/data")).is_ok());
}
