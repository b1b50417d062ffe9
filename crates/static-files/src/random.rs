//! Names that nobody can guess: for boundaries and temporary files.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Returns 128 random bits as 32 hexadecimal digits.
pub(crate) fn hex() -> String {
    // Its keys are random; std has no plainer source.
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_differ() {
        let (one, other) = (super::hex(), super::hex());
        assert_ne!(one, other);
        assert_eq!((one.len(), other.len()), (32, 32));
    }
}
