//! Random bytes, for topic ids and the like.

/// A source of random bytes.
pub trait Rng: Send + Sync + 'static {
    /// Fills `out`.
    fn fill(&self, out: &mut [u8]);
}

/// The kernel's random bytes.
#[derive(Default)]
pub struct RealRng;

impl Rng for RealRng {
    fn fill(&self, out: &mut [u8]) {
        use std::io::Read;
        #[allow(clippy::disallowed_methods, reason = "this is the seam")]
        let source = std::fs::File::open("/dev/urandom");
        let read = source.and_then(|mut file| file.read_exact(out));
        assert!(read.is_ok(), "the kernel gives no random bytes: {read:?}");
    }
}
