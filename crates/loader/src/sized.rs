//! Structs that another version of servlet.h may have made shorter or longer than ours (servlet.h 6).

use std::mem::{MaybeUninit, offset_of};

use serval_abi::{SV_E_ARG, SV_E_UNSUPPORTED, sv_cookie, sv_filter, sv_listener, sv_module, sv_response, sv_servlet};

use crate::exchange::{Answer, Fault};

/// A struct with a member `struct_size`.
///
/// # Safety
/// All bits zero is a value of it, and `SIZE_AT` is the offset of a `uint32_t struct_size`.
pub unsafe trait Sized1: Copy {
    const SIZE_AT: usize;
}

macro_rules! sized {
    ($($name:ident)*) => {$(
        // SAFETY: integers, pointers and functions that may be NULL.
        unsafe impl Sized1 for $name {
            const SIZE_AT: usize = offset_of!($name, struct_size);
        }
    )*};
}

sized!(sv_module sv_servlet sv_filter sv_listener sv_response sv_cookie);

/// LIMIT: no version of a struct is longer.
const SIZE_MAX: usize = 64 << 10;

/// Copies a struct: what its writer does not have is zero, and what we do not have is left out. `None`: it is NULL, or its size
/// is none of that struct.
///
/// # Safety
/// NULL, or what `given` leads to has its struct_size and is that long.
pub unsafe fn sized<T: Sized1>(given: *const T, size_1_0: usize) -> Option<T> {
    if given.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let size = unsafe { given.byte_add(T::SIZE_AT).cast::<u32>().read_unaligned() } as usize;
    if !(size_1_0..=SIZE_MAX).contains(&size) {
        return None;
    }
    let mut copy = MaybeUninit::<T>::zeroed();
    // SAFETY: both are that long; bytes have no alignment.
    unsafe { std::ptr::copy_nonoverlapping(given.cast::<u8>(), copy.as_mut_ptr().cast(), size.min(size_of::<T>())) };
    // SAFETY: zero, or the writer's bytes; the trait's promise.
    Some(unsafe { copy.assume_init() })
}

/// Copies an argument named `what`: what we do not have and is not zero is wanted, and cannot be done.
///
/// # Safety
/// As [`sized`].
pub unsafe fn argument<T: Sized1>(given: *const T, size_1_0: usize, what: &str) -> Answer<T> {
    // SAFETY: the caller's promise.
    let Some(copy) = (unsafe { sized(given, size_1_0) }) else {
        let text = format!("the {what} is NULL, or its struct_size is not sizeof(sv_{what})");
        return Err(Fault::new(SV_E_ARG, text));
    };
    // SAFETY: as above; it was read a moment ago.
    let size = unsafe { given.byte_add(T::SIZE_AT).cast::<u32>().read_unaligned() } as usize;
    // SAFETY: the struct is that long.
    let wanted = (size_of::<T>()..size).any(|at| unsafe { given.byte_add(at).cast::<u8>().read() } != 0);
    if wanted {
        let text = format!("the {what} uses members of a later servlet.h, which this server does not know");
        return Err(Fault::new(SV_E_UNSUPPORTED, text));
    }
    Ok(copy)
}
