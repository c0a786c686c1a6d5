//! Zstandard, inflated in one go into the output. No window buffer exists then, whatever size a frame asks for.

use std::cell::RefCell;

use zstd::zstd_safe::{DCtx, get_error_name, get_frame_content_size};

use super::{first_capacity, make_room, unreadable};
use crate::batch::BatchError;

/// `ZSTD_error_dstSize_tooSmall`, as the function results carry it. Its number is part of zstd's stable interface.
const OUTPUT_TOO_SMALL: usize = 0_usize.wrapping_sub(70);

thread_local! {
    /// A context takes longer to make than a small batch takes to inflate.
    static CONTEXT: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

pub(super) fn decompress(bytes: &[u8], size_max: usize) -> Result<Vec<u8>, BatchError> {
    // A frame that declares its size gets exactly that. One that does not, or lies, is tried again with more room, each
    // time four times as much. Room that is never written to costs an address range, not memory.
    let declared = get_frame_content_size(bytes).ok().flatten();
    let mut capacity = match declared.map(usize::try_from) {
        Some(Ok(size)) if size <= size_max => size,
        Some(_) => return Err(BatchError::Bomb { max: size_max }),
        None => first_capacity(bytes.len(), size_max),
    };
    loop {
        let mut out = Vec::new();
        make_room(&mut out, capacity, size_max);
        let result = CONTEXT.with_borrow_mut(|context| context.decompress(&mut out, bytes));
        match result {
            Ok(_) if out.len() <= size_max => return Ok(out),
            Err(code) if code != OUTPUT_TOO_SMALL => return Err(unreadable("zstd", get_error_name(code))),
            _ if capacity >= size_max => return Err(BatchError::Bomb { max: size_max }),
            _ => capacity = capacity.saturating_mul(4).clamp(4096, size_max.max(4096)),
        }
    }
}

pub(super) fn compress(bytes: &[u8]) -> Result<Vec<u8>, BatchError> {
    zstd::bulk::compress(bytes, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(|error| unreadable("zstd", error))
}
