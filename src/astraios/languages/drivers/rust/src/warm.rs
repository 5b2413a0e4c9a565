//! Keeps the crates in the library.

/// Refers to every crate that programs use, so that none is left out where it is linked.
pub fn keep() {
    std::hint::black_box(regex::Regex::new as fn(&str) -> Result<regex::Regex, regex::Error>);
    std::hint::black_box(md5::compute::<&str> as fn(&'static str) -> md5::Digest);
}
