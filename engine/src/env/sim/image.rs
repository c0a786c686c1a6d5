//! The bytes of one simulated file: sparse pages that clones share until one of them writes.

use std::collections::BTreeMap;
use std::sync::Arc;

const PAGE: usize = 4096;

/// A file's content. Bytes at and past `size` are zero in every page, so that growing shows zeros.
#[derive(Clone, Default)]
pub(super) struct Image {
    /// Pages that are not all zero.
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
    size: u64,
}

impl Image {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Fills `out` from `position` on; zeros where nothing was written.
    pub(super) fn read(&self, position: u64, out: &mut [u8]) {
        for (page, within, range) in pieces(position, out.len()) {
            let out = &mut out[range];
            match self.pages.get(&page) {
                Some(bytes) => out.copy_from_slice(&bytes[within..within + out.len()]),
                None => out.fill(0),
            }
        }
    }

    /// Writes, and grows to the end of what is written.
    pub(super) fn write(&mut self, position: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.size = self.size.max(position + bytes.len() as u64);
        }
        for (page, within, range) in pieces(position, bytes.len()) {
            let bytes = &bytes[range];
            if !self.pages.contains_key(&page) && bytes.iter().all(|&byte| byte == 0) {
                continue;
            }
            let kept = Arc::make_mut(self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE])));
            kept[within..within + bytes.len()].copy_from_slice(bytes);
        }
    }

    /// Grows with zeros or cuts.
    pub(super) fn set_size(&mut self, size: u64) {
        self.size = size;
        let last = size / PAGE as u64;
        let within = (size % PAGE as u64) as usize;
        self.pages.split_off(&(last + 1));
        if within == 0 {
            self.pages.remove(&last);
        } else if let Some(page) = self.pages.get_mut(&last) {
            Arc::make_mut(page)[within..].fill(0);
        }
    }

    /// Turns one bit over.
    pub(super) fn flip(&mut self, position: u64, bit: u8) {
        let mut byte = [0];
        self.read(position, &mut byte);
        self.write(position, &[byte[0] ^ (1 << (bit % 8))]);
    }
}

/// Cuts a range at page borders: page number, place within the page, and which bytes of the range.
fn pieces(position: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let now = position + done as u64;
        let within = (now % PAGE as u64) as usize;
        let size = (PAGE - within).min(len - done);
        let piece = (now / PAGE as u64, within, done..done + size);
        done += size;
        (size > 0).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_image_is_a_vector_of_bytes(
            steps in prop::collection::vec((any::<bool>(), 0u64..20_000, 0usize..9_000, any::<u8>()), 1..20),
        ) {
            let mut image = Image::default();
            let mut model: Vec<u8> = Vec::new();
            let mut versions = Vec::new();
            for (resize, position, len, fill) in steps {
                if resize {
                    image.set_size(position);
                    model.resize(position as usize, 0);
                } else {
                    image.write(position, &vec![fill; len]);
                    let end = position as usize + len;
                    if len > 0 {
                        model.resize(model.len().max(end), 0);
                        model[position as usize..end].fill(fill);
                    }
                }
                versions.push((image.clone(), model.clone()));
            }
            // Clones must not see later writes.
            for (image, model) in versions {
                let mut read = vec![1; model.len() + 5_000];
                image.read(0, &mut read);
                prop_assert_eq!(image.size(), model.len() as u64);
                prop_assert_eq!(&read[..model.len()], &model[..]);
                prop_assert!(read[model.len()..].iter().all(|&byte| byte == 0));
            }
        }
    }
}
