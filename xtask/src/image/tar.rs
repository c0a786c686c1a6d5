//! Writes a tar archive (the ustar form) of a few entries, the same bytes for the same input: no times, no names of users.

const BLOCK: usize = 512;

/// Who owns an entry.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Owner {
    pub user: u32,
    pub group: u32,
}

/// An archive under construction.
#[derive(Default)]
pub struct Archive(Vec<u8>);

impl Archive {
    /// Adds a file.
    pub fn file(&mut self, name: &str, mode: u32, owner: Owner, bytes: &[u8]) {
        self.header(name, mode, owner, bytes.len(), b'0');
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
    }

    /// Adds a folder.
    pub fn folder(&mut self, name: &str, mode: u32, owner: Owner) {
        self.header(&format!("{name}/"), mode, owner, 0, b'5');
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        self.0
    }

    fn header(&mut self, name: &str, mode: u32, owner: Owner, size: usize, kind: u8) {
        let mut block = [0; BLOCK];
        let mut put = |position: usize, text: &[u8]| block[position..position + text.len()].copy_from_slice(text);
        assert!(name.len() <= 100, "{name}: the name is too long for this archive");
        put(0, name.as_bytes());
        put(100, format!("{mode:07o}").as_bytes());
        put(108, format!("{:07o}", owner.user).as_bytes());
        put(116, format!("{:07o}", owner.group).as_bytes());
        put(124, format!("{size:011o}").as_bytes());
        put(136, b"00000000000"); // modified in 1970
        put(156, &[kind]);
        put(257, b"ustar\x0000");
        // The sum counts itself as spaces.
        put(148, b"        ");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.0.extend_from_slice(&block);
    }
}
