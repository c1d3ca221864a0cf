//! A zstd frame of given steps: the one place of the house with `unsafe`.
//!
//! zstd can encode matches that somebody else found, but no safe crate offers it. What it must not be told is a match
//! that reaches before its prefix or a length that exceeds the data; it is asked to check each itself
//! (`ZSTD_c_validateSequences`), and whoever calls this decodes the frame before it is stored.

use super::follow::Step;
use std::ptr::NonNull;
use zstd::zstd_safe::zstd_sys::{
    ZSTD_CCtx, ZSTD_CCtx_loadDictionary_advanced, ZSTD_CCtx_setParameter, ZSTD_Sequence, ZSTD_cParameter,
    ZSTD_compressSequences, ZSTD_createCCtx, ZSTD_dictContentType_e, ZSTD_dictLoadMethod_e, ZSTD_freeCCtx,
    ZSTD_isError, ZSTD_strategy,
};
use zstd::zstd_safe::{ErrorCode, SafeResult, compress_bound};

/// Replaces `out` by the frame that `steps` make of `raw` behind `prefix`.
pub(super) fn encode(prefix: &[u8], raw: &[u8], window_log: u32, steps: &[Step], out: &mut Vec<u8>) -> SafeResult {
    let sequences: Vec<ZSTD_Sequence> = steps.iter().map(sequence).collect();
    let mut context = Context::new()?;
    context.configure(window_log)?;
    context.refer_to(prefix)?;
    out.clear();
    out.reserve_exact(compress_bound(raw.len()));
    context.compress(&sequences, raw, out)
}

fn sequence(step: &Step) -> ZSTD_Sequence {
    ZSTD_Sequence { offset: step.offset, litLength: step.literals, matchLength: step.matched, rep: 0 }
}

/// A context of zstd, for one frame, that refers to a prefix which outlives it.
struct Context<'a> {
    raw: NonNull<ZSTD_CCtx>,
    prefix: std::marker::PhantomData<&'a [u8]>,
}

#[allow(unsafe_code)]
impl<'a> Context<'a> {
    fn new() -> Result<Context<'a>, ErrorCode> {
        // SAFETY: takes nothing and gives a context of its own, or null.
        let raw = NonNull::new(unsafe { ZSTD_createCCtx() }).ok_or_else(super::no_memory)?;
        Ok(Context { raw, prefix: std::marker::PhantomData })
    }

    /// The strategy decides how carefully the entropy tables are chosen. The tables for a search of its own, which does
    /// not take place, are as small as they can be: of a prefix zstd then only enters the last bytes.
    fn configure(&mut self, window_log: u32) -> Result<(), ErrorCode> {
        for (parameter, value) in [
            (ZSTD_cParameter::ZSTD_c_windowLog, window_log),
            (ZSTD_cParameter::ZSTD_c_strategy, ZSTD_strategy::ZSTD_btopt as u32),
            (ZSTD_cParameter::ZSTD_c_hashLog, 6),
            (ZSTD_cParameter::ZSTD_c_chainLog, 6),
            (ZSTD_cParameter::ZSTD_c_minMatch, 3),
            // ZSTD_c_validateSequences
            (ZSTD_cParameter::ZSTD_c_experimentalParam12, 1),
        ] {
            // SAFETY: the context lives; any parameter and value may be given, a wrong one is an error.
            checked(unsafe { ZSTD_CCtx_setParameter(self.raw.as_ptr(), parameter, value as i32) })?;
        }
        Ok(())
    }

    /// As a dictionary rather than as a prefix, which the check of the sequences forgets (1.5.7): the frame is the same.
    fn refer_to(&mut self, prefix: &'a [u8]) -> Result<(), ErrorCode> {
        // SAFETY: the bytes outlive the context, which refers to them until it is freed.
        checked(unsafe {
            ZSTD_CCtx_loadDictionary_advanced(
                self.raw.as_ptr(),
                prefix.as_ptr().cast(),
                prefix.len(),
                ZSTD_dictLoadMethod_e::ZSTD_dlm_byRef,
                ZSTD_dictContentType_e::ZSTD_dct_rawContent,
            )
        })
        .map(drop)
    }

    fn compress(&mut self, sequences: &[ZSTD_Sequence], raw: &[u8], out: &mut Vec<u8>) -> SafeResult {
        // SAFETY: each pointer comes with the length of what it points to, and zstd checks each sequence against both;
        // of `out` it writes no more than there is room, and says how much that was.
        let written = checked(unsafe {
            ZSTD_compressSequences(
                self.raw.as_ptr(),
                out.as_mut_ptr().cast(),
                out.capacity(),
                sequences.as_ptr(),
                sequences.len(),
                raw.as_ptr().cast(),
                raw.len(),
            )
        })?;
        // SAFETY: so many bytes have just been written, within the capacity.
        unsafe { out.set_len(written) };
        Ok(written)
    }
}

#[allow(unsafe_code)]
impl Drop for Context<'_> {
    fn drop(&mut self) {
        // SAFETY: it was made by zstd, is freed once, and nobody has it after this.
        unsafe { ZSTD_freeCCtx(self.raw.as_ptr()) };
    }
}

#[allow(unsafe_code)]
fn checked(code: ErrorCode) -> SafeResult {
    // SAFETY: looks at nothing but its argument.
    if unsafe { ZSTD_isError(code) } == 0 { Ok(code) } else { Err(code) }
}
